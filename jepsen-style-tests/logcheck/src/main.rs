//! The command line: see `logcheck --help`.

use std::process::ExitCode;

use clap::Parser;

mod cli;

fn main() -> ExitCode {
    match cli::Cli::try_parse() {
        Ok(cli) => cli::run(cli),
        Err(error) => {
            // Help and version are no errors, and go to stdout.
            let code = if error.use_stderr() { cli::USAGE } else { 0 };
            let _ = error.print();
            ExitCode::from(code)
        }
    }
}
