//! The program itself. That cargo builds it for this test is what the end-to-end tests of `tests/` rely on.

#[test]
fn it_says_its_version() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_windlass"))
        .arg("--version")
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.trim(), concat!("windlass ", env!("CARGO_PKG_VERSION")));
}
