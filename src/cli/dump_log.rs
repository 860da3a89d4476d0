//! `flotilla dump-log`: needs `storage`; the lead wires it.

use std::path::PathBuf;

use clap::Args;

use super::Failure;

#[derive(Args)]
pub struct DumpLogArgs {
    /// Data directory of a broker that is stopped.
    #[arg(long)]
    dir: PathBuf,
}

pub fn run(args: DumpLogArgs) -> Result<(), Failure> {
    Err(Failure::failed(format!("dump-log of {} needs storage", args.dir.display())))
}
