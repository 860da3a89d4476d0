//! The one product binary. Everything is in the library.

#![deny(clippy::print_stdout, clippy::print_stderr, reason = "nothing is printed but by `cli::output`")]

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    flotilla::cli::main()
}
