//! The one product binary. Everything is in the library.

fn main() -> std::process::ExitCode {
    flotilla::cli::main()
}
