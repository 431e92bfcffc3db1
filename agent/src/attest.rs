//! What provably runs: read from /proc and the link at the moment of asking, never from what was ordered.

use std::path::Path;

use windlass_proto::digest::Digest;
use windlass_proto::phase::Attestation;
use windlass_proto::spec::Runtime as RuntimeSpec;

use crate::runtime::Launch;
use crate::runtime::process::find;

/// What runs of an application. `link` is the target of `current`; `expected` is the release that should run, `None`
/// when none should.
pub fn attest(link: Option<&Path>, expected: Option<&Launch>) -> Attestation {
    let shown = link.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
    let Some(launch) = expected else {
        return Attestation { ok: link.is_none(), link: shown, ..Attestation::default() };
    };
    let link_ok = link == Some(launch.dir.as_path());
    if let RuntimeSpec::Static { .. } = launch.spec.runtime {
        let digest = link_ok.then_some(launch.release.digest);
        return Attestation { ok: link_ok, link: shown, digest, ..Attestation::default() };
    }
    let Some(started) = find(&launch.run) else {
        return Attestation { link: shown, ..Attestation::default() };
    };
    let (exe, cwd) = (started.app.exe(), started.app.cwd());
    // The kernel resolves links; so must we before comparing.
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let tree = real(&started.dir);
    let inside = |path: Option<&Path>| path.is_some_and(|path| path.starts_with(&tree));
    // A script's executable is its interpreter, so it is known by where it works; an absolute program by its path.
    let from_tree = inside(exe.as_deref())
        || inside(cwd.as_deref())
        || (!started.program.starts_with(&started.dir) && exe.as_deref() == Some(&*real(&started.program)));
    let digest: Option<Digest> = from_tree.then_some(started.release.digest);
    Attestation {
        ok: link_ok && digest == Some(launch.release.digest) && started.dir == launch.dir,
        exe: exe.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default(),
        pid: started.app.pid,
        started_at: Some(started.at),
        link: shown,
        digest,
    }
}
