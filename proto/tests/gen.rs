//! Regenerates the gRPC code from the `.proto` files and fails where the committed code differs.
//!
//! `WINDLASS_REGENERATE=1 cargo test -p windlass-proto --features rpc --test gen` writes it anew. No protoc is needed.

mod texts;

use std::path::Path;

use prost::Message as _;

const CODE: [&str; 2] = ["windlass.v1.rs", "texts.rs"];
const FILES: [&str; 5] = ["types", "agent", "bundle", "rollout", "fleet"];

#[test]
fn generated_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let protos = FILES.map(|name| format!("windlass/v1/{name}.proto"));
    let descriptors = protox::compile(protos, [root]).expect("the .proto files compile");
    let out = tempfile::tempdir().expect("a temporary directory");
    tonic_prost_build::configure()
        .build_server(true)
        .build_client(true)
        .btree_map(".")
        .bytes(".windlass.v1.Chunk.compressed")
        .out_dir(out.path())
        .compile_fds(descriptors.clone())
        .expect("code generation");
    std::fs::write(out.path().join("texts.rs"), texts::code(&descriptors)).expect("code for texts");
    let committed = root.join("src/gen");
    if std::env::var_os("WINDLASS_REGENERATE").is_some() {
        std::fs::create_dir_all(&committed).expect("src/gen");
        for code in CODE {
            std::fs::copy(out.path().join(code), committed.join(code)).expect("write code");
        }
        std::fs::write(committed.join("descriptors.bin"), descriptors.encode_to_vec())
            .expect("write descriptors");
        return;
    }
    let hint = "run WINDLASS_REGENERATE=1 cargo test -p windlass-proto --features rpc --test gen";
    for code in CODE {
        let fresh = std::fs::read_to_string(out.path().join(code)).expect("fresh code");
        let stored = std::fs::read_to_string(committed.join(code)).expect("committed code");
        assert!(fresh == stored, "src/gen/{code} is stale: {hint}");
    }
    let stored = std::fs::read(committed.join("descriptors.bin")).expect("committed descriptors");
    assert!(descriptors.encode_to_vec() == stored, "src/gen/descriptors.bin is stale: {hint}");
}
