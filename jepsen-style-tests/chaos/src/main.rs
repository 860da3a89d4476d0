//! The command line: see `flotilla-chaos --help`.

use std::{io::Write, path::Path, process::ExitCode};

use clap::Parser;
use flotilla_chaos::{
    engine::{self, Plan},
    error::ChaosError,
    fault::Fault,
    matrix,
    options::{Command, Options},
    probe::Machine,
    progress, report,
    workload::Workload,
};
use logcheck::{report::Verdict, show};

/// After the second Ctrl-C nothing is waited for.
const INTERRUPTED: i32 = 130;

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(Command::Report { dir }) = &options.command {
        return report_again(dir);
    }
    if options.list {
        return list(&options);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let done = match runtime {
        Ok(runtime) => {
            let done = runtime.block_on(run(options));
            // A client that does not end is not waited for: what it holds of the cluster, the guard takes away.
            runtime.shutdown_background();
            done
        }
        Err(error) => Err(ChaosError::Program { program: "the runtime".into(), error }),
    };
    match done {
        Ok((exit_code, table)) => {
            say(&table);
            ExitCode::from(exit_code)
        }
        Err(error) => {
            progress::end_line();
            eprintln!("flotilla-chaos: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

async fn run(options: Options) -> Result<(u8, String), ChaosError> {
    let run = async {
        if options.matrix {
            let dir = engine::dir(&options);
            let outcome = matrix::run(options, &dir).await?;
            return Ok((outcome.exit_code(), outcome.table(&dir)));
        }
        engine::run(Plan::of(options)?).await.map(|done| (done.exit_code, done.table))
    };
    tokio::select! {
        done = run => done,
        // What runs is dropped by this, and with it processes and mounts.
        () = interrupted() => Err(ChaosError::Interrupted),
    }
}

/// Resolves at Ctrl-C or SIGTERM; the next one ends the process at once, and the guard does the rest.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            let Ok(mut interrupt) = signal(SignalKind::interrupt()) else { return };
            interrupt.recv().await;
            std::process::exit(INTERRUPTED);
        });
    });
}

/// Prints to standard output; who closed it does not want to know.
fn say(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

fn report_again(dir: &Path) -> ExitCode {
    match report::check_and_write(dir) {
        Ok((checked, path)) => {
            say(&format!("{}\nreport    {}\n", show::verdict(&checked), path.display()));
            ExitCode::from(match checked.verdict {
                Verdict::Valid => 0,
                Verdict::Invalid => 10,
                Verdict::Unknown => 11,
            })
        }
        Err(error) => {
            eprintln!("flotilla-chaos: {error}");
            ExitCode::FAILURE
        }
    }
}

fn list(options: &Options) -> ExitCode {
    let machine = Machine::look(options);
    let mut out = String::from("faults\n");
    for fault in Fault::ALL {
        let lacks = machine.lacks(*fault).map(|why| format!(" (NOT AVAILABLE: {why})")).unwrap_or_default();
        out += &format!("  {fault:<18} {}{lacks}\n", fault.says());
    }
    out += "workloads\n";
    for workload in Workload::ALL {
        let lacks = options.lacks(*workload).map(|why| format!(" (NOT AVAILABLE: {why})")).unwrap_or_default();
        out += &format!("  {workload:<18} {}{lacks}\n", workload.says());
    }
    say(&out);
    ExitCode::SUCCESS
}
