//! Generates the gRPC code from `proto/` without needing a `protoc` on the machine.

use std::{env, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = ["proto/flotilla/v1/flotilla.proto", "proto/flotilla/internal/v1/node.proto"];
    let descriptors = protox::compile(files, ["proto"])?;
    // The reflection service answers from this file.
    let path = PathBuf::from(env::var("OUT_DIR")?).join("flotilla.descriptors");
    fs::write(path, prost_bytes(&descriptors))?;
    let codec = "crate::proto::BoundedCodec";
    tonic_prost_build::configure().bytes(".").codec_path(codec).compile_fds(descriptors)?;
    Ok(())
}

fn prost_bytes(descriptors: &impl prost::Message) -> Vec<u8> {
    descriptors.encode_to_vec()
}
