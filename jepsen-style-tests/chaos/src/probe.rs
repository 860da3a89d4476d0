//! What is available on this machine, and where the binary is.

use std::{
    env,
    path::{Path, PathBuf},
};

use crate::{
    error::ChaosError,
    fault::{Fault, Need},
    options::Options,
};

/// What faults may need and a machine may lack.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Why there are no disks of our own, if so.
    pub no_disks: Option<String>,
    pub nodes: u8,
    /// The brokers are somebody else's.
    pub is_running: bool,
}

impl Machine {
    pub fn look(options: &Options) -> Machine {
        Machine { no_disks: powerfs::unavailable(), nodes: options.nodes, is_running: !options.brokers.is_empty() }
    }

    /// Why a fault is not available here, if so.
    pub fn lacks(&self, fault: Fault) -> Option<String> {
        match fault.need() {
            Need::Nothing => None,
            _ if self.is_running => Some("it needs brokers of the run's own, without --brokers".into()),
            Need::Brokers => None,
            Need::Disks => self.no_disks.clone(),
            Need::FiveNodes => (self.nodes < 5).then(|| format!("it needs --nodes 5, there are {}", self.nodes)),
        }
    }
}

/// The broker's binary: named, or by the environment, or beside this program, or from PATH.
pub fn binary(named: Option<&Path>) -> Result<PathBuf, ChaosError> {
    let from_environment = env::var_os("FLOTILLA_BIN").map(PathBuf::from);
    if let Some(path) = named.map(Path::to_path_buf).or(from_environment) {
        let found = path.canonicalize().ok().filter(|path| path.is_file());
        return found.ok_or(ChaosError::NoBinary { tried: path.display().to_string() });
    }
    let beside = env::current_exe().ok().and_then(|own| Some(own.parent()?.join("flotilla")));
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path).map(|dir| dir.join("flotilla"));
    let mut tried = beside.iter().cloned().chain(on_path);
    let found = tried.find(|path| path.is_file());
    let tried = beside.map_or(String::new(), |path| format!("{} and ", path.display())) + "PATH";
    found.ok_or(ChaosError::NoBinary { tried })
}
