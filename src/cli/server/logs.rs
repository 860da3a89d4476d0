//! The server's log: text or JSON on stderr, every line within a span that names the node; and what
//! a panic comes to.

use std::{io::IsTerminal, panic, process};

use tracing::Span;
use tracing_subscriber::EnvFilter;

use crate::{cli::exit::Failure, config::LogFormat, types::BrokerId};

/// Libraries that say at INFO or WARN what is DEBUG to an operator: openraft tells of every vote, and of every
/// heartbeat that a dead node does not get, where our own log says once that its link is down.
///
/// Two of its modules say as errors that its core has ended, which they hear of at every orderly stop; the
/// core itself says it when it ends by an error.
const QUIET: &str = "openraft=error,openraft::raft::stream_append=off,openraft::raft::raft_inner=off,h2=warn,\
                     hyper=warn,tonic=warn";

/// Installs the log of this process.
pub(super) fn install(format: LogFormat, filter: &str) -> Result<(), String> {
    // What the operator asks for comes last and goes before.
    let filter = EnvFilter::try_new(format!("{QUIET},{filter}"))
        .map_err(|error| format!("log_filter is {filter:?}: {error}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Reporting a stderr that nobody reads would panic on stderr.
        .log_internal_errors(false);
    let installed = match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
    };
    installed.map_err(|error| format!("the log cannot be installed: {error}"))
}

/// Why the broker ends, as one more line of a JSON log: whoever reads that reads no other. In text the command
/// line says it, as of any command.
pub(super) fn last_words(format: LogFormat, failure: Failure) -> Failure {
    match format {
        LogFormat::Text => failure,
        LogFormat::Json => {
            // What ends before its log is installed, as with a setting that is wrong, has one now.
            let _ = install(format, "info");
            tracing::error!(exit_code = failure.code, "{}", failure.message);
            Failure { message: String::new(), ..failure }
        }
    }
}

/// The span that every thread of the node works in.
pub(super) fn node_span(broker: BrokerId) -> Span {
    // At the highest level, so that no filter takes the node's name off a line.
    tracing::error_span!("node", broker = broker.0)
}

/// Puts the calling thread into the span for good. Tasks are not bound to their parents' spans,
/// threads are: one process is one node.
pub(super) fn enter_for_good(span: &Span) {
    std::mem::forget(span.clone().entered());
}

/// A panic in one task would leave a broker that answers for some groups and not for others: crash
/// rather than go on by half. The cluster fails over, and a supervisor restarts us.
pub(super) fn abort_on_panic() {
    panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let message = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)");
        let backtrace = std::backtrace::Backtrace::force_capture();
        tracing::error!(location, message, %backtrace, "panic: this is a bug, the process aborts");
        process::abort();
    }));
}
