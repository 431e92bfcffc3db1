//! The same jobs with windlass: a development fleet of real processes, one run each.

use std::fs;
use std::path::Path;
use std::time::Duration;

use windlass_proto::bundle::BundleFile;
use windlass_proto::digest::Digest;
use windlass_tests::fleet::{self, Fleet};

use crate::report::Report;
use crate::tree::Release;
use crate::{HOSTS, timed};

/// First deploy, change, rollback. The fleet is given back so that it is deleted only after all measurements.
pub(crate) fn measure(release: &Release, scratch: &Path, report: &mut Report) -> Fleet {
    println!("{}: windlass", scratch.file_name().unwrap().to_string_lossy());
    fs::create_dir(scratch).unwrap();
    let fleet = fleet::new().hosts(HOSTS).up();
    memory(&fleet, "idle", "VmRSS", report);

    let (took, digest) = publish(&fleet, &release.v1, "1", scratch, "v1", report);
    let first = deploy(&fleet, &release.v1, digest);
    report.time("first deploy", first);
    report.time("first deploy with build and push", took + first);
    report.bytes("bytes first deploy", fetched(&fleet, digest));
    memory(&fleet, "peak", "VmHWM", report);

    let (took, digest) = publish(&fleet, &release.v2, "2", scratch, "v2", report);
    let second = deploy(&fleet, &release.v2, digest);
    report.time("v1 to v2", second);
    report.time("v1 to v2 with build and push", took + second);
    report.bytes("bytes v1 to v2", fetched(&fleet, digest));

    let back = timed(|| {
        fleet.windlass(&["rollback", "bench", "--yes"]).expect(0);
    });
    report.time("rollback", back);
    fleet
}

/// Builds and pushes a version.
fn publish(
    fleet: &Fleet,
    version_dir: &Path,
    version: &str,
    scratch: &Path,
    name: &str,
    report: &mut Report,
) -> (Duration, Digest) {
    let file = scratch.join(format!("{name}.wlb"));
    let (dir, out) = (version_dir.to_str().unwrap(), file.to_str().unwrap());
    let build = timed(|| {
        fleet
            .windlass(&["bundle", "build", dir, "--version", version, "--counter", version, "--out", out])
            .expect(0);
    });
    report.time(&format!("bundle build {name}"), build);
    let push = timed(|| {
        fleet.windlass(&["bundle", "push", out]).expect(0);
    });
    report.time(&format!("bundle push {name}"), push);
    let bundle = BundleFile::open(fs::File::open(&file).unwrap()).unwrap();
    (build + push, bundle.envelope().digest())
}

fn deploy(fleet: &Fleet, version_dir: &Path, digest: Digest) -> Duration {
    let spec = version_dir.join("windlass.yaml");
    let digest = digest.to_string();
    timed(|| {
        fleet.windlass(&["deploy", "-f", spec.to_str().unwrap(), "--bundle", &digest, "--yes"]).expect(0);
    })
}

/// Bytes that one host fetched for a release, envelope included, as its agent's log says; the most of all hosts.
fn fetched(fleet: &Fleet, digest: Digest) -> u64 {
    let short = digest.short();
    let of = |host: &fleet::Host| -> u64 {
        let path = fleet.dir().join("logs").join(format!("{}.log", host.name));
        let log = plain(&fs::read_to_string(path).unwrap());
        let line = log.lines().rfind(|line| line.contains("release staged") && line.contains(&short));
        let line = line.unwrap_or_else(|| panic!("{} says nothing of staging {short}", host.name));
        let (_, rest) = line.split_once("bytes_fetched").unwrap();
        let digits = rest.trim_start_matches(|c: char| !c.is_ascii_digit());
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        digits[..end].parse().unwrap()
    };
    fleet.all().iter().map(of).max().unwrap()
}

/// Without escape codes.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\x1b') {
        out.push_str(before);
        rest = after.split_once('m').map_or("", |(_, after)| after);
    }
    out.push_str(rest);
    out
}

/// Memory of the coordinator and of the largest agent.
fn memory(fleet: &Fleet, when: &str, field: &str, report: &mut Report) {
    let of = |pid: i32| -> u64 {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    };
    report.bytes(&format!("coordinator memory, {when}"), of(fleet.coordinator_pid()));
    let agents = fleet.all();
    report.bytes(
        &format!("agent memory, {when}"),
        agents.iter().map(|host| of(host.pid.unwrap())).max().unwrap(),
    );
}
