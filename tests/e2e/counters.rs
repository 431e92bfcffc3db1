//! Who may push, but is no author, ends no app's upgrades by a number.

use std::path::Path;

use windlass_proto::bundle::AuthorKey;
use windlass_tests::app::App;
use windlass_tests::fleet::{self, Fleet};
use windlass_tests::http::free_port;

/// A bundle of the app as its files are now, with any counter and signer: what the CLI does not make.
fn forge(
    fleet: &Fleet,
    app: &App,
    version: &str,
    counter: u64,
    key: &AuthorKey,
    as_signed_by: Option<&AuthorKey>,
) {
    use windlass_proto::bundle::{BundleFile, Envelope, write_bundle};
    let honest = app.dir().join("honest.wlb");
    let args = ["bundle", "build", app.dir().to_str().unwrap(), "--version", version];
    fleet.windlass(&[&args[..], &["--out", honest.to_str().unwrap()]].concat()).expect(0);
    let file = BundleFile::open(std::fs::File::open(&honest).unwrap()).unwrap();
    let mut manifest = file.unverified_manifest().clone();
    manifest.counter = counter;
    let mut envelope = Envelope::new(&manifest);
    envelope.sign(key);
    if let Some(victim) = as_signed_by {
        let text = String::from_utf8(envelope.encode()).unwrap();
        let (own, named) = (key.id().to_string(), victim.id().to_string());
        envelope = Envelope::decode(text.replace(&own, &named).as_bytes()).unwrap();
    }
    let forged = app.dir().join("forged.wlb");
    write_bundle(&mut std::fs::File::create(&forged).unwrap(), &envelope, &file).unwrap();
    fleet.windlass(&["bundle", "push", forged.to_str().unwrap()]).expect(0);
    for path in [honest, forged] {
        std::fs::remove_file(path).unwrap();
    }
}

fn own_key(dir: &Path) -> AuthorKey {
    AuthorKey::from_pem(&std::fs::read_to_string(dir.join("keys/author.key")).unwrap()).unwrap()
}

#[test]
fn no_counter_that_somebody_pushes_ends_an_apps_upgrades() {
    let fleet = fleet::new().hosts(1).up();
    let app = App::new("web", free_port(1));
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);
    let (own, foreign) = (own_key(fleet.dir()), AuthorKey::generate().unwrap());
    app.version("6.6");
    forge(&fleet, &app, "6.6.0", u64::MAX - 2, &foreign, None);
    forge(&fleet, &app, "6.6.1", u64::MAX - 1, &foreign, Some(&own));
    // Near enough to be believed, if its signature were good.
    forge(&fleet, &app, "6.6.2", 1000, &foreign, Some(&own));
    // The next release itself, if somebody knows it beforehand.
    app.version("1.1");
    forge(&fleet, &app, "1.1", u64::MAX, &foreign, None);
    let spec = app.dir().join("windlass.yaml");
    fleet.deploy(&spec, "1.1").expect(7).says("give these contents a --version of their own");

    let mut counters = Vec::new();
    for version in ["1.2", "1.3", "1.4"] {
        fleet.deploy(&app.version(version), version).expect(0);
        fleet.serves(app.port, version);
        let bundles = fleet.json(&["bundle", "list", "--app", "web"])["bundles"].as_array().unwrap().clone();
        let own = bundles.iter().find(|bundle| bundle["version"] == version).unwrap().clone();
        assert_eq!(own["accepted"], true, "{own}");
        counters.push(own["counter"].as_u64().unwrap());
    }
    assert_eq!(counters, [2, 3, 4]);

    // An author's own slip is found before anything is signed, and before any host is asked.
    let (dir, most) = (app.dir().to_str().unwrap(), u64::MAX.to_string());
    let build = ["bundle", "build", dir, "--version", "2.0", "--counter"];
    fleet.windlass(&[&build[..], &[&most]].concat()).expect(2).says("too few for later releases");
    let (out, far) = (app.dir().join("far.wlb"), (1_u64 << 60).to_string());
    let out = out.to_str().unwrap();
    fleet.windlass(&[&build[..], &[&far, "--out", out]].concat()).expect(0);
    let spec = spec.to_str().unwrap();
    let refused = fleet.windlass(&["deploy", "-f", spec, "--bundle", out]).expect(1);
    refused.says("too far above 4").says("use 5");
    fleet.serves(app.port, "1.4");
}
