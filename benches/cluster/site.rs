//! Clusters to measure on, one for each binary.

use std::{
    env, fs, io, mem,
    path::{Path, PathBuf},
    process::{self, Command},
    thread,
};

use jepsen_style_tests::cluster::{Cluster, TestDir, assert_no_panics};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    figures::{Side, Sides},
    options::Options,
};

pub const NODES: u64 = 3;

pub struct Sites<'a> {
    sides: &'a Sides,
    /// A cluster serves for all scenarios: the short form has no time for more.
    keeps: bool,
    kept: Option<Cluster>,
}

impl Sites<'_> {
    pub fn new<'a>(options: &Options, sides: &'a Sides) -> Sites<'a> {
        end_brokers_on_signals();
        Sites { sides, keeps: options.form.is_short && sides.other.is_none(), kept: None }
    }

    /// On a new cluster, so that nothing depends on what was measured before; or, in the short form, on the old one.
    pub fn with<T>(&mut self, side: Side, name: &str, work: impl FnOnce(&Cluster) -> T) -> T {
        let start = || {
            let dir = TestDir::below(&below(), name);
            Cluster::start_in(dir, self.sides.path(side), NODES, &[], |_| vec![])
        };
        let cluster = mem::take(&mut self.kept).unwrap_or_else(start);
        let result = work(&cluster);
        if self.keeps {
            self.kept = Some(cluster);
        } else {
            end(cluster);
        }
        result
    }
}

impl Drop for Sites<'_> {
    fn drop(&mut self) {
        if let Some(cluster) = self.kept.take()
            && !thread::panicking()
        {
            end(cluster);
        }
        let _ = fs::remove_dir(below()); // What a failure left there is for a look.
    }
}

/// A broker that panicked has measured nothing.
fn end(cluster: Cluster) {
    cluster.local(&["stop"]);
    assert_no_panics(cluster.dir());
}

/// Where brokers keep their data: on the disk that is built on, not in `/tmp`, which may be memory.
fn below() -> PathBuf {
    let own = || Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cluster-{}", process::id()));
    env::var_os("FLOTILLA_TEST_DIR").map_or_else(own, PathBuf::from)
}

/// Brokers are in process groups of their own, and would outlive this.
fn end_brokers_on_signals() {
    let signalled = || -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut terminated = signal(SignalKind::terminate())?;
            tokio::select! {
                interrupted = tokio::signal::ctrl_c() => interrupted,
                _ = terminated.recv() => Ok(()),
            }
        })
    };
    thread::spawn(move || {
        if signalled().is_ok() {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/end-processes.sh");
            let _ = Command::new(script).arg(below()).status(); // What is left, its user sees.
            process::exit(130);
        }
    });
}
