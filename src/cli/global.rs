//! What every command of a client takes, and the cluster that it is about.

use std::time::Duration;

use clap::Args;

use super::{contexts, exit::Failure, units};
use crate::client::{Admin, Cluster, World};

/// Commands to which flags of clients mean nothing: a broker dials its peers, and a program of its own has its own.
/// Alone, before clap hands these flags down, they do not have them.
pub const WITHOUT_GLOBALS: &[&str] = &["server", "chaos"];

#[derive(Args, Clone, Debug)]
pub struct Global {
    /// Client addresses of some brokers; without it, the current context's.
    #[arg(short, long, global = true, env = "FLOTILLA_BROKERS", value_name = "HOST:PORT,...", value_delimiter = ',')]
    pub brokers: Vec<String>,
    /// How long a record, or a call, may take in all, retries included.
    #[arg(long, global = true, default_value = "30s", value_name = "TIME", value_parser = units::wait,
        allow_hyphen_values = true)]
    pub timeout: Duration,
}

impl Global {
    /// The cluster the command is about: -b, FLOTILLA_BROKERS, or the current context.
    pub fn cluster(&self) -> Result<Cluster, Failure> {
        self.cluster_in(World::system())
    }

    pub fn cluster_in(&self, world: World) -> Result<Cluster, Failure> {
        let brokers = if self.brokers.is_empty() { contexts::current()?.brokers } else { self.brokers.clone() };
        Cluster::with_world(brokers, world).map_err(|error| Failure::usage(error.to_string()))
    }

    pub fn admin(&self) -> Result<Admin, Failure> {
        Ok(Admin::new(self.cluster()?, self.timeout))
    }
}
