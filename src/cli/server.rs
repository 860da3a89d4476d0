//! `flotilla server`: runs one node in a process of its own, until a signal.
//!
//! Configuration and log first; one line on stdout once clients can be served. SIGTERM or SIGINT stop it in order
//! (SAFETY M13); a second signal ends the process at once. Whatever must not go on ends it with a message that says
//! what to do.

mod logs;
mod notify;
mod refusals;

use std::{io::Write, pin::pin, time::Duration};

use super::{exit::Failure, signals::Signals};
use crate::{
    config::{Loaded, Machine, ServerArgs, ServerConfig, memory_bytes, unknown_variables},
    server::{Addresses, Descriptors, LifeSigns, Server},
    storage::disk_bytes,
    types::BrokerId,
};

/// What `flotilla server` takes: every key of the configuration as a flag, and the file.
pub type ServerCommand = ServerArgs;

/// What the end of its help says. Supervisors may leave a broker that ended with 2 alone.
pub const EXIT_CODES: &str = "\
Exit codes: 0 stopped by a signal; 1 it cannot go on, and says why (a directory that is damaged, a listener that failed);
2 a setting must change: one that is wrong, an address that cannot be bound, a directory of another broker or cluster, or in
use; 74 its disk failed or hangs; 70 and 134 a fault of flotilla.";

/// How long tasks may take to be dropped, and the database to be closed.
const RUNTIME_MAX: Duration = Duration::from_secs(3);

/// The same when somebody waits to read why the broker ended, or has told it twice to end.
const RUNTIME_FAILED_MAX: Duration = Duration::from_millis(500);

/// Returns half the cores unless told otherwise: on two cores shared by three brokers and a client, one worker each
/// answered one record at a time in 0.72 ms where two took 0.85 (each task switch between workers is a wake-up in the
/// kernel), and lost no throughput.
fn worker_threads(asked: Option<u32>) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    asked.map_or((cores / 2).max(1), |asked| asked as usize)
}

/// Runs a broker until it is told to stop or must not go on.
pub fn run(args: ServerCommand) -> Result<(), Failure> {
    let format = args.log_format();
    run_broker(args).map_err(|failure| logs::last_words(format, failure))
}

fn run_broker(args: ServerCommand) -> Result<(), Failure> {
    let mut loaded = args.load().map_err(|error| Failure::usage(error.to_string()))?;
    loaded.warnings.extend(unknown_variables(std::env::vars_os().map(|(name, _)| name)));
    let config = &loaded.config;
    let machine = Machine { memory_bytes: memory_bytes(), disk_bytes: disk_bytes(&config.data_dir).ok() };
    loaded.warnings.extend(config.check_machine(&machine).map_err(|error| Failure::usage(error.to_string()))?);
    logs::install(config.log_format, &config.log_filter).map_err(Failure::usage)?;
    logs::abort_on_panic();
    let span = logs::node_span(config.id);
    logs::enter_for_good(&span);
    let shared = Descriptors::raise().map_err(Failure::failed)?;
    let descriptors = if config.kafka.listener.is_some() { shared } else { shared.without_kafka() };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(worker_threads(config.worker_threads))
        .thread_name("flotilla")
        .on_thread_start(move || logs::enter_for_good(&span))
        .build()
        .map_err(|error| Failure::failed(format!("cannot start threads: {error}")))?;
    let result = runtime.block_on(serve(loaded, descriptors));
    // Drops every task and with the last of them the database: RocksDB's threads must not run while
    // the process's own exit takes down what they use.
    runtime.shutdown_timeout(if result.is_ok() { RUNTIME_MAX } else { RUNTIME_FAILED_MAX });
    result
}

async fn serve(loaded: Loaded, descriptors: Descriptors) -> Result<(), Failure> {
    let Loaded { config, warnings } = loaded;
    let mut signals = Signals::listen()?;
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(version, data_dir = %config.data_dir.display(), pid = std::process::id(), "starting");
    say_what_is_planted()?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    for warning in descriptors.warnings(&config) {
        tracing::warn!("{warning}");
    }
    let signs = LifeSigns::default();
    let started = tokio::select! {
        started = Server::start(&config, descriptors, &signs) => started,
        signal = signals.next() => {
            tracing::info!(signal, "stopped before it had started");
            return Ok(());
        }
    };
    let mut server = started.map_err(|failed| refusals::of(&failed))?;
    let signal = run_until_signal(&mut server, &config, &mut signals).await?;
    tracing::info!(signal, "stopping");
    signs.stopping();
    notify::tell(notify::STOPPING);
    tokio::select! {
        () = server.stop() => {
            tracing::info!("stopped");
            Ok(())
        }
        signal = signals.next() => {
            Err(Failure::failed(format!("{signal} again while stopping: ended at once, nothing more is handed over")))
        }
    }
}

/// So that nobody takes such a broker for one that keeps its promises.
fn say_what_is_planted() -> Result<(), Failure> {
    #[cfg(feature = "seeded-bugs")]
    match crate::seam::plant::chosen() {
        Ok(Some(plant)) => tracing::error!(plant = plant.name(), "THIS BROKER HAS A PLANTED BUG: {}", plant.wrong()),
        Ok(None) => tracing::info!("this build has bugs that can be planted; none is"),
        Err(unknown) => return Err(Failure::failed(format!("{}: {unknown}", crate::seam::plant::VARIABLE))),
    }
    Ok(())
}

/// Announces readiness once. Ends with the signal's name, or with why the broker must not go on.
async fn run_until_signal(
    server: &mut Server,
    config: &ServerConfig,
    signals: &mut Signals,
) -> Result<&'static str, Failure> {
    let mut ready = pin!(server.ready());
    let mut is_announced = false;
    let addresses = server.addresses().clone();
    let mut failed = pin!(server.failed());
    loop {
        tokio::select! {
            signal = signals.next() => return Ok(signal),
            failed = &mut failed => return Err(refusals::of(&failed)),
            () = &mut ready, if !is_announced => {
                is_announced = true;
                announce(config.id, &addresses);
            }
        }
    }
}

fn announce(id: BrokerId, addresses: &Addresses) {
    let Addresses { client, peer, http, kafka } = addresses;
    tracing::info!(client, peer, http, kafka, "ready");
    let kafka = kafka.as_ref().map(|kafka| format!(", kafka {kafka}")).unwrap_or_default();
    // Whoever started us may not read this.
    let _ = writeln!(std::io::stdout(), "broker {id} is ready: client {client}, peer {peer}, http {http}{kafka}");
    notify::tell(notify::READY);
}
