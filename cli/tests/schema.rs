//! The committed schema is the one that the types give; editors and docs may point at the file.

const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/windlass.schema.json");

#[test]
fn the_committed_schema_is_up_to_date() {
    let made = format!("{:#}\n", windlass_cli::spec::schema());
    if std::env::var_os("WINDLASS_REGENERATE").is_some() {
        std::fs::write(COMMITTED, &made).expect("the schema can be written");
    }
    let committed = std::fs::read_to_string(COMMITTED).expect("the schema is committed");
    assert!(
        committed == made,
        "run WINDLASS_REGENERATE=1 cargo test -p windlass-cli --test schema and commit"
    );
}
