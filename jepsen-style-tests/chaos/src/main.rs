//! The command line: see `flotilla-chaos --help`.

fn main() {}
