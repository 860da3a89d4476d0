//! How the process's file descriptors are shared out. The store comes first: one that it cannot open when it
//! must ends the broker. What is left are connections, of which no stranger may take more.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::ServerConfig;

/// Listeners, logs, the runtime's own, connections on their way to being refused, and some to spare.
const OWN: u64 = 48;
/// Below this not even the store has enough.
const LIMIT_MIN: u64 = 128;
/// What no process needs: shares of an unlimited limit are shares of this.
const LIMIT_MAX: u64 = 1 << 20;
/// One in so many of all descriptors is for data files, as many are for blob files and for logs and compactions.
const STORE_PART: u64 = 8;
/// The same for connections of other brokers, and as many to them.
const PEERS_PART: u64 = 16;
/// The same for HTTP.
const HTTP_PART: u64 = 16;
/// The store keeps at most this many files open, data files and blob files each; enough for some TiB.
const STORE_FILES_MAX: u64 = 16_384;
/// Incoming connections of other brokers, and as many outgoing ones.
const PEERS_MAX: u64 = 2_048;
const PEERS_MIN: u64 = 8;
const HTTP_MAX: u64 = 128;
const HTTP_MIN: u64 = 8;

/// Who may have how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// What the process may open in all.
    pub limit: u64,
    /// Data files that the store keeps open, and as many blob files; it opens a few more while it compacts.
    pub store_files: u64,
    /// Connections on the listener for other brokers.
    pub peers: u64,
    pub http: u64,
    pub clients: u64,
    /// Connections of Kafka clients.
    pub kafka: u64,
}

impl Descriptors {
    /// Raises the process's soft limit of open files to the hard one, and shares it out.
    pub fn raise() -> Result<Descriptors, String> {
        let limit = getrlimit(Resource::Nofile);
        if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
            tracing::warn!(%error, "could not raise the limit of open files");
        }
        // None: unlimited.
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(LIMIT_MAX);
        Descriptors::share(limit).ok_or_else(|| {
            format!(
                "this process may open only {limit} files (ulimit -n), a broker needs {LIMIT_MIN} at least: raise it"
            )
        })
    }

    /// Shares `limit` out. None: it is too low for a broker.
    pub fn share(limit: u64) -> Option<Descriptors> {
        let limit = limit.min(LIMIT_MAX);
        if limit < LIMIT_MIN {
            return None;
        }
        let store_files = (limit / STORE_PART).min(STORE_FILES_MAX);
        let peers = (limit / PEERS_PART).clamp(PEERS_MIN, PEERS_MAX);
        let http = (limit / HTTP_PART).clamp(HTTP_MIN, HTTP_MAX);
        // Data files, blob files, and once more for logs and what compactions write.
        let taken = OWN + 3 * store_files + 2 * peers + http;
        let rest = limit.saturating_sub(taken);
        Some(Descriptors { limit, store_files, peers, http, clients: rest - rest / 2, kafka: rest / 2 })
    }

    /// The same without a listener for Kafka clients: other clients have their share.
    pub fn without_kafka(self) -> Descriptors {
        Descriptors { clients: self.clients + self.kafka, kafka: 0, ..self }
    }

    /// What to tell an operator who allows more connections than there are descriptors for, a sentence for each key.
    pub fn warnings(&self, config: &ServerConfig) -> Vec<String> {
        let Descriptors { limit, clients, kafka, .. } = *self;
        let kafka_max = config.kafka.listener.as_ref().map_or(0, |_| config.kafka.connections_max);
        let allowed = [
            ("connections_max", config.connections_max, clients, "client connections"),
            ("kafka_connections_max", kafka_max, kafka, "connections of Kafka clients"),
        ];
        let too_many = allowed.into_iter().filter(|(_, max, have, _)| *have < u64::from(*max));
        let warnings = too_many.map(|(key, max, have, what)| {
            format!(
                "{key} = {max} does not fit: this process may open {limit} files (ulimit -n), which leaves {have} for \
                 {what}; one more is refused. Raise the limit, or lower {key}"
            )
        });
        warnings.collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::config::ServerArgs;

    #[test]
    fn the_store_and_the_peers_have_their_share_before_clients_do() {
        for limit in (LIMIT_MIN..5_000).chain([65_536, 524_288, LIMIT_MAX, u64::MAX]) {
            let shared = Descriptors::share(limit).expect("it is enough");
            let Descriptors { store_files, peers, http, clients, kafka, .. } = shared;
            assert!(store_files >= 16 && peers >= PEERS_MIN && http >= HTTP_MIN, "{shared:?}");
            assert!(clients >= 1 && kafka >= 1, "{shared:?}");
            assert!(OWN + 3 * store_files + 2 * peers + http + clients + kafka <= limit, "{shared:?}");
        }
        assert_eq!(Descriptors::share(LIMIT_MIN - 1), None);
    }

    #[test]
    fn usual_limits_leave_clients_most_of_them() {
        let usual = Descriptors::share(524_288).expect("it is enough");
        assert_eq!((usual.store_files, usual.peers, usual.http), (STORE_FILES_MAX, PEERS_MAX, HTTP_MAX));
        let allowing = config(&[]);
        assert_eq!(usual.warnings(&allowing), Vec::<String>::new());
        let few = Descriptors::share(256).expect("it is enough");
        let rest = 256 - OWN - 3 * 32 - 2 * 16 - 16;
        assert_eq!((few.clients, few.kafka), (rest / 2, rest / 2));
        let warnings = few.warnings(&allowing);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        for (warning, key) in warnings.iter().zip(["connections_max = 10000", "kafka_connections_max = 10000"]) {
            assert!(warning.starts_with(key) && warning.contains("256") && warning.contains("ulimit"), "{warning}");
        }
        let few = few.without_kafka();
        assert_eq!((few.clients, few.kafka), (rest, 0));
        assert_eq!(few.warnings(&config(&["--kafka-bind="])).len(), 1);
    }

    fn config(flags: &[&str]) -> ServerConfig {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            server: ServerArgs,
        }
        let needed = ["server", "--id=1", "--data-dir=d", "--peers=1@127.0.0.1:7071"];
        Cli::parse_from(needed.iter().chain(flags)).server.load().expect("valid").config
    }
}
