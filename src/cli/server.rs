//! `flotilla server`: a stub; branch w/grpc brings the real one.

use std::ffi::OsString;

use clap::Args;

use super::Failure;

#[derive(Args)]
pub struct ServerCommand {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

/// Runs a broker until it is told to stop. Brings its own runtime.
pub fn run(args: ServerCommand) -> Result<(), Failure> {
    let _ = args.rest;
    Err(Failure::failed("this build has no server"))
}
