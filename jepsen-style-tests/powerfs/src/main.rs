//! The command line: `powerfs mount` holds a mount, `powerfs ctl` talks to it.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};
use nix::{
    sys::signal::{SigSet, Signal, kill},
    unistd::Pid,
};
use powerfs::{Faults, Mounted, Options, SyncErrors, control};

/// A file system in memory whose power can be cut.
///
/// What was written and not synced is gone after a cut, as on a disk; kill -9 shows nothing of that, since the kernel keeps what
/// was written. fsync of a file makes its bytes and size durable, fsync of a directory its names. Made for tests of
/// durability, and as fast as memory.
#[derive(Parser)]
#[command(name = "powerfs", after_help = EXAMPLE)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLE: &str = "\
Example, as root:
  mkdir /tmp/disk && powerfs mount /tmp/disk --control /tmp/disk.sock &
  echo precious > /tmp/disk/a && sync /tmp/disk/a /tmp/disk
  echo careless > /tmp/disk/b
  powerfs ctl /tmp/disk.sock cut torn 42     # a and its name were synced; b was not
  powerfs ctl /tmp/disk.sock on
  ls /tmp/disk                               # a, and with luck b
  powerfs ctl /tmp/disk.sock stop";

#[derive(Subcommand)]
enum Command {
    /// Mounts an empty disk, until it is told to stop (SIGINT, SIGTERM, or `powerfs ctl SOCKET stop`).
    Mount(MountArgs),
    /// Says one command to a mounted disk: cuts its power, sets its faults, asks for its counters.
    #[command(after_help = control::HELP)]
    Ctl {
        /// The socket that `powerfs mount --control` made.
        socket: PathBuf,
        /// The command, see below.
        #[arg(required = true, num_args = 1.., trailing_var_arg = true)]
        command: Vec<String>,
    },
}

#[derive(Args)]
struct MountArgs {
    /// An empty directory to mount on.
    at: PathBuf,
    /// Where to listen for `powerfs ctl`.
    #[arg(long)]
    control: PathBuf,
    /// Memory for both views together. The disk has half of it.
    #[arg(long, default_value_t = 2048, value_parser = clap::value_parser!(u64).range(2..=1 << 30))]
    memory_mib: u64,
    /// A sync of anything makes all earlier names durable, too, as ext4 does. Without it a name is durable only after a sync of
    /// its directory.
    #[arg(long)]
    kind_names: bool,
    /// Syncs succeed and do nothing: to see whether a test would notice.
    #[arg(long)]
    lie: bool,
    /// How long each sync takes.
    #[arg(long, default_value_t = 0, value_name = "MS")]
    fsync_delay: u64,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Mount(args) => mount(&args),
        Command::Ctl { socket, command } => match control::say(&socket, &command.join(" ")) {
            Ok(Ok(said)) => {
                println!("{said}");
                Ok(())
            }
            Ok(Err(why)) => Err(why),
            Err(error) => Err(format!("{}: {error}", socket.display())),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("powerfs: {why}");
            ExitCode::FAILURE
        }
    }
}

fn mount(args: &MountArgs) -> Result<(), String> {
    // Before any thread is started, so that none of them takes a signal that `wait` below is for.
    let mut ends = SigSet::empty();
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().for_each(|signal| ends.add(signal));
    ends.thread_block().map_err(|error| format!("signals cannot be waited for: {error}"))?;
    if let Some(why) = powerfs::unavailable() {
        return Err(why);
    }
    let sync_delay = Duration::from_millis(args.fsync_delay);
    let faults = Faults { lies: args.lie, sync_delay, sync_errors: SyncErrors::Never, ..Faults::default() };
    let options = Options { memory_bytes_max: args.memory_mib << 20, kind_names: args.kind_names, faults };
    let mounted = Mounted::new(&args.at, options).map_err(|error| format!("{}: {error}", args.at.display()))?;
    let stop = || {
        // To ourselves, and `wait` below takes it.
        let _ = kill(Pid::this(), Signal::SIGTERM);
    };
    control::listen(&args.control, mounted.power().clone(), stop)
        .map_err(|error| format!("{}: {error}", args.control.display()))?;
    println!("mounted on {}; control socket {}", args.at.display(), args.control.display());
    ends.wait().map_err(|error| format!("signals cannot be waited for: {error}"))?;
    println!("{}", mounted.power().status());
    let _ = std::fs::remove_file(&args.control);
    Ok(())
}
