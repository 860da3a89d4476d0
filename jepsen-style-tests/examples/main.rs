//! The examples in the client's documentation, run against a local cluster of three brokers. The documentation includes
//! the very files that stand below as modules, so what it shows is what runs here.

#[path = "../../src/client/examples/admin.rs"]
mod admin;
#[path = "../../src/client/examples/consume.rs"]
mod consume;
#[path = "../../src/client/examples/group.rs"]
mod group;
#[path = "../../src/client/examples/produce.rs"]
mod produce;

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use flotilla::client::{Admin, Cluster};
use tempfile::TempDir;
use tokio::time::timeout;

/// Longer than an example takes on a loaded machine.
const EXAMPLE_MAX: Duration = Duration::from_secs(120);

/// Three brokers, which end with the test.
struct Brokers {
    dir: TempDir,
    addresses: Vec<String>,
}

impl Brokers {
    fn start() -> Brokers {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let mut brokers = Brokers { dir, addresses: Vec::new() };
        brokers.command(&["local", "start", "--nodes", "3"]);
        let status = brokers.command(&["local", "status", "--format", "json"]);
        let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
        let nodes = status["nodes"].as_array().unwrap_or_else(|| panic!("no nodes in {status}"));
        let address = |node: &serde_json::Value| node["client"].as_str().map(str::to_string);
        brokers.addresses = nodes.iter().filter_map(address).collect();
        assert_eq!(brokers.addresses.len(), 3, "{status}");
        brokers
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// The output of a command that keeps all it keeps below the test's directory.
    fn command(&self, arguments: &[&str]) -> String {
        let output = flotilla(&self.home(), arguments).output().expect("the binary runs");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {told}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Brokers {
    fn drop(&mut self) {
        // A test that fails says why it did, and not what comes of it here.
        let _ = flotilla(&self.home(), &["local", "stop"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

fn flotilla(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flotilla"));
    command.args(arguments).env("HOME", home);
    for name in ["XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"] {
        command.env(name, home.join(name));
    }
    command.env_remove("FLOTILLA_BROKERS").stdin(Stdio::null());
    command
}

/// In the order in which somebody reads them: each goes on with what the one before it left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_of_the_documentation_run() {
    let brokers = Brokers::start();
    let cluster = Cluster::new(brokers.addresses.clone()).expect("addresses");
    let admin = Admin::new(cluster.clone(), Duration::from_secs(30));
    let all = async {
        admin::administer(&admin).await.expect("the example for topics");
        produce::produce(&cluster).await.expect("the example for a producer");
        assert_eq!(consume::consume(&cluster, &admin).await.expect("the example for a consumer"), 10);
        group::bill(&cluster, 10).await.expect("the example for a group");
    };
    timeout(EXAMPLE_MAX, all).await.expect("the examples end");
    let committed = admin.committed_offsets("billing").await.expect("the group is known");
    assert_eq!(committed.iter().map(|at| at.offset.0).sum::<i64>(), 10, "{committed:?}");
}
