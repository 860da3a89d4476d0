//! The command line: reads flags, calls `client`, prints. No logic that another face would need.
//!
//! Promises: data on stdout, talk on stderr; exit codes as in `exit`; JSON shapes frozen by tests;
//! every command's help has an example; whoever closes a pipe ends nothing but the talk. Leaves out: what a server
//! does (`server`).

#![deny(clippy::print_stdout, clippy::print_stderr, reason = "they panic when nobody reads: use `output`")]

mod bench;
mod cluster;
mod consume;
mod context;
mod contexts;
mod crash;
mod dump_log;
mod exit;
mod external;
mod files;
mod format;
#[cfg(test)]
mod fuzz;
mod global;
mod group;
mod guess;
mod local;
mod man;
mod offsets;
mod output;
mod produce;
mod server;
mod signals;
mod terminal;
mod topic;
mod units;
mod verify;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

pub use exit::Failure;

use global::{Global, WITHOUT_GLOBALS};

const EXAMPLES: &str = "\
Examples:
  flotilla local start --nodes 3                      three brokers on this machine
  flotilla topic create orders -p 6
  echo 'hello' | flotilla produce orders --receipts text
  flotilla consume orders -e
  flotilla consume orders -g billing                  again elsewhere: the two share the work
  flotilla group describe billing
  flotilla cluster health
  flotilla verify                                     whether all replicas hold the same

Exit codes: 0 done, 1 failed without effect, 2 usage, or settings that cannot be, 3 outcome unknown, 4 not found, 5 ended
early (stderr says how much was done), 10 unhealthy or verdict invalid, 11 verdict unknown, 70 a fault of flotilla, 74 a
broker's disk failed, 130 and 143 ended by Ctrl-C and SIGTERM, 141 nobody reads standard output any more.";

/// A replicated log with Kafka's semantics, every partition its own Raft group.
#[derive(Parser)]
#[command(name = "flotilla", version, about, after_help = EXAMPLES, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a broker.
    #[command(after_help = server::EXIT_CODES)]
    Server(Box<server::ServerCommand>),
    /// Run a cluster of real processes on this machine.
    #[command(subcommand, after_help = local::EXAMPLES)]
    Local(local::LocalCommand),
    /// Create, list, describe and change topics.
    #[command(subcommand, after_help = topic::EXAMPLES)]
    Topic(topic::TopicCommand),
    /// Send records from standard input.
    #[command(after_help = produce::EXAMPLES)]
    Produce(produce::ProduceArgs),
    /// Print records of one or more topics.
    #[command(after_help = consume::EXAMPLES)]
    Consume(consume::ConsumeArgs),
    /// Consumer groups: members, committed offsets, lag.
    #[command(subcommand, after_help = group::EXAMPLES)]
    Group(group::GroupCommand),
    /// Health, brokers and leaderships.
    #[command(subcommand, after_help = cluster::EXAMPLES)]
    Cluster(cluster::ClusterCommand),
    /// Compare the replicas of every partition.
    #[command(after_help = verify::EXAMPLES)]
    Verify(verify::VerifyArgs),
    /// Measure.
    #[command(subcommand, after_help = bench::EXAMPLES)]
    Bench(bench::BenchCommand),
    /// Print a replica's committed log from a stopped broker's directory.
    DumpLog(dump_log::DumpLogArgs),
    /// Break a cluster of its own on purpose, and check that nothing acknowledged is lost.
    #[command(after_help = external::EXAMPLES, disable_help_flag = true)]
    Chaos {
        /// For flotilla-chaos.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<std::ffi::OsString>,
    },
    /// Print a completion script for a shell.
    #[command(after_help = "Example:\n  source <(flotilla completion bash)")]
    Completion {
        /// bash, zsh, fish, elvish or powershell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a directory, for packages.
    #[command(hide = true)]
    Man { directory: std::path::PathBuf },
    /// Remember clusters, so that commands need no -b.
    #[command(subcommand, after_help = context::EXAMPLES)]
    Context(context::ContextCommand),
}

/// Runs the process's command line.
pub fn main() -> ExitCode {
    crash::end_with_a_sentence();
    if let Some((command, args)) = external::asked_for(std::env::args_os()) {
        return external::become_program(command, &args).report();
    }
    let cli = Cli::from_arg_matches(&command().get_matches()).unwrap_or_else(|error| error.exit());
    let result = match cli.command {
        // A broker brings its own runtime; everything else lives on one thread.
        Command::Server(command) => server::run(*command),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "flotilla", &mut script);
            output::write_all_out(&String::from_utf8_lossy(&script))
        }
        Command::Man { directory } => man::write_all(command(), &directory),
        Command::Context(command) => context::run(command, &cli.global),
        Command::DumpLog(args) => dump_log::run(args),
        Command::Chaos { .. } => Err(external::no_flags_before("chaos")),
        command => client_runtime(cli.global, command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Returns the command line as users meet it.
fn command() -> clap::Command {
    let command = without_empty_variables(Cli::command());
    WITHOUT_GLOBALS.iter().fold(command, |command, name| {
        let alone = Cli::command().find_subcommand(name).cloned().expect("there is such a command");
        let help = alone.bin_name(format!("flotilla {name}")).render_long_help();
        command.mut_subcommand(name, |subcommand| subcommand.override_help(help))
    })
}

/// A variable that is set to nothing counts as not set: that is how it is put away in a script.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |arg: &clap::Arg| {
        let value = arg.get_env().and_then(std::env::var_os);
        value.is_some_and(|value| value.is_empty())
    };
    let command = command.mut_args(|arg| if is_empty(&arg) { arg.env(None::<&str>) } else { arg });
    command.mut_subcommands(without_empty_variables)
}

fn client_runtime(global: Global, command: Command) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    let result = runtime.block_on(run(global, command));
    // Standard input may still be read by a blocking thread that nobody waits for.
    runtime.shutdown_background();
    result
}

async fn run(global: Global, command: Command) -> Result<(), Failure> {
    match command {
        Command::Local(command) => local::run(command, &global).await,
        Command::Topic(command) => topic::run(command, &global).await,
        Command::Produce(args) => produce::run(args, &global).await,
        Command::Consume(args) => consume::run(args, &global).await,
        Command::Group(command) => group::run(command, &global).await,
        Command::Cluster(command) => cluster::run(command, &global).await,
        Command::Verify(args) => verify::run(args, &global).await,
        Command::Bench(command) => bench::run(command, &global).await,
        Command::Server(_)
        | Command::Completion { .. }
        | Command::Man { .. }
        | Command::Context(_)
        | Command::Chaos { .. }
        | Command::DumpLog(_) => {
            unreachable!("run without a client")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        command().debug_assert();
    }

    /// Seen once: it offered -b and --timeout, which a broker has no use for.
    #[test]
    fn the_help_of_a_server_shows_its_own_flags() {
        for flag in ["-h", "--help"] {
            let help = command().try_get_matches_from(["flotilla", "server", flag]).expect_err("help").to_string();
            assert!(help.contains("--data-dir") && help.contains("Usage: flotilla server"), "{help}");
            assert!(help.contains("74 its disk failed"), "{help}");
            assert!(!help.contains("--brokers") && !help.contains("--timeout"), "{help}");
        }
    }

    #[test]
    fn a_program_of_its_own_is_listed_with_how_to_ask_it() {
        let help = |line: &str| command().try_get_matches_from(line.split(' ')).expect_err("help").to_string();
        assert!(help("flotilla --help").contains("  chaos       Break a cluster"), "{}", help("flotilla --help"));
        let own = help("flotilla help chaos");
        assert!(own.contains("`flotilla chaos --help` asks it") && !own.contains("--brokers"), "{own}");
    }

    /// The variable can only be set for another process: this test runs itself.
    #[test]
    fn an_empty_variable_counts_as_none() {
        const CHILD: &str = "FLOTILLA_TEST_CHILD";
        const NAME: &str = "cli::tests::an_empty_variable_counts_as_none";
        if std::env::var_os(CHILD).is_some() {
            let matches = command().try_get_matches_from(["flotilla", "server", "--id", "1"]).expect("it parses");
            crash::end_with_a_sentence();
            let cli = Cli::from_arg_matches(&matches).expect("it parses");
            let Command::Server(server) = cli.command else { panic!("another command") };
            assert_eq!((server.heartbeat_ms, server.rack), (None, None));
            assert_eq!(cli.global.brokers, Vec::<String>::new());
            return;
        }
        let mut child = std::process::Command::new(std::env::current_exe().expect("this program"));
        for name in ["FLOTILLA_HEARTBEAT_MS", "FLOTILLA_RACK", "FLOTILLA_BROKERS"] {
            child.env(name, "");
        }
        let child = child.args([NAME, "--exact"]).env(CHILD, "1").output().expect("it runs");
        let text = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && text.contains("1 passed"), "{text}");
    }

    #[test]
    fn a_typo_is_answered_with_a_guess() {
        let error = Cli::try_parse_from(["flotilla", "topik"]).err().expect("there is no topik");
        assert!(error.to_string().contains("topic"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }

    /// Seen once: 0 was taken for "the default", and -1 for a flag.
    #[test]
    fn numbers_out_of_range_are_refused_by_name() {
        for (line, value) in [
            ("topic create t -p 0", "0"),
            ("topic create t -p -1", "-1"),
            ("topic create t -r 0", "0"),
            ("topic add-partitions t -p 0", "0"),
            ("topic trim t -p -1 --before end", "-1"),
            ("cluster transfer-leader t -p -1", "-1"),
            ("cluster transfer-leader t --to 0", "0"),
            ("produce t -p -1", "-1"),
            ("produce t --expect-offset -1", "-1"),
            ("produce t --batch-bytes 0", "0"),
            ("produce t --linger -5ms", "-5ms"),
            ("produce t --timeout -1s", "-1s"),
            ("consume t --timeout 0", "0"),
            ("consume t -p 0,-1", "-1"),
            ("consume t -n 0", "0"),
            ("consume t -n -5", "-5"),
            ("consume t -o 9:3", "9:3"),
            ("consume t -g g --session-timeout 0", "0"),
            ("consume t -g g --commit-interval 0s", "0s"),
            ("consume t -g g --max-poll-interval 0", "0"),
            ("consume t -g g --max-poll-interval 10ms", "10ms"),
            ("consume t -g g --max-poll-interval -1s", "-1s"),
            ("topic trim t -p 0 --before -1", "-1"),
            ("cluster health --watch --interval 0", "0"),
            ("verify --wait 0", "0"),
            ("verify --deep --rate 0", "0"),
            ("bench produce -p 0", "0"),
            ("bench produce --size 0", "0"),
            ("bench produce --duration 0s", "0s"),
            ("bench consume --records 0", "0"),
            ("bench commit --rate 0", "0"),
            ("local start --nodes 0", "0"),
        ] {
            let args = ["flotilla"].into_iter().chain(line.split(' '));
            let error = Cli::try_parse_from(args).err().unwrap_or_else(|| panic!("{line} is taken"));
            assert!(error.to_string().contains(&format!("invalid value '{value}' for")), "{line}: {error}");
            assert_eq!(error.exit_code(), 2);
        }
    }

    /// Seen once: it was left out of account.
    #[test]
    fn the_metadata_group_has_no_partitions() {
        let line = ["flotilla", "cluster", "transfer-leader", "--metadata", "-p", "3"];
        let error = Cli::try_parse_from(line).err().expect("it makes no sense");
        assert!(error.to_string().contains("'--metadata' cannot be used with '--partition <PARTITION>'"), "{error}");
    }

    #[test]
    fn the_flags_of_the_design_parse() {
        for line in [
            "produce t -f %k:%v\\n --receipts json --acks all --timeout 30s --partitioner sticky --expect-offset 5 -p 0",
            "produce t --partitioner random --seed 7 --acks 1",
            "produce t -f json -k key -H a=b -H c=d -z zstd --acks 0",
            "produce t -K :",
            "consume t u -f %t -o -5 -n 3 -e -p 0",
            "consume t -f json -o @2026-11-24T00:00:00Z",
            "consume t -o 5:9",
            "consume --topics-regex a.* -e -f json",
            "consume t u -g g --commit-interval 200ms --offset-reset latest --instance-id i --session-timeout 6s -v",
            "consume t --group g --no-commit --offset-reset fail --assignor range -n 5",
            "topic create t -p 6 -r 3 -c retention.ms=1000 --wait",
            "topic describe t --format json",
            "topic trim t -p 0 --before 100 --dry-run",
            "topic delete t",
            "group list --lag --format json",
            "group describe g --members",
            "group seek g --to -5 --topic t:1 --topic u --dry-run",
            "group seek g --to @2026-11-24T00:00:00Z",
            "group reset g --format json",
            "group delete g --dry-run",
            "topic alter t -c retention.ms=1000 --unset retention.bytes --dry-run",
            "cluster transfer-leader t -p 0 --to 2",
            "cluster transfer-leader --metadata",
            "cluster balance --dry-run --format json",
            "cluster health --details",
            "cluster health --format json",
            "cluster health --watch --interval 500ms",
            "verify",
            "verify t u --deep --rate 32MiB --wait 1s --format json",
            "verify -w --interval 10s --metrics 127.0.0.1:0",
            "bench produce -p 16 --size 1KiB --duration 60s --warmup 10s --in-flight 8192 --rate 100 --format json",
            "bench produce -t mine --size 1024 --acks 1",
            "bench consume -p 4 --records 1000 -g g --commit-interval 100ms",
            "bench consume -t mine --format json",
            "bench e2e -p 4 --rate 100 --warmup 1s --duration 2s --format json",
            "bench commit --groups 10 --rate 50 --duration 1s",
            "local start --nodes 5 --dir /tmp/x",
            "local status --format json",
            "local kill 2",
            "local pause --node 2",
            "local stop",
            "context add prod -b a:1,b:2",
            "completion bash",
        ] {
            let args = ["flotilla"].into_iter().chain(line.split(' '));
            if let Err(error) = Cli::try_parse_from(args) {
                panic!("{line}: {error}");
            }
        }
    }
}
