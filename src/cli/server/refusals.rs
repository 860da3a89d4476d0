//! Why a broker does not start, or does not go on: the sentence, and the exit code. 2, as for what is mistyped, where
//! a setting must change, for the same start would end the same; 1 where something happened to disk, cluster or
//! machine.

use std::{io::ErrorKind, path::Path};

use crate::{broker::BrokerFailed, cli::exit::Failure, server::ServerFailed, storage::StoreError};

/// What ended a server, or kept it from starting, and what to do about it.
pub(super) fn of(failed: &ServerFailed) -> Failure {
    match failed {
        ServerFailed::Alone { .. } => Failure::usage(failed.to_string()),
        ServerFailed::Bind { key, cause, .. } => {
            Failure::usage(format!("{failed}; {}", another_address(cause.kind(), key)))
        }
        ServerFailed::Directory { directory, cause } => of_directory(directory, cause),
        ServerFailed::Broker(failed) => of_broker(failed),
        ServerFailed::Threads(_) | ServerFailed::Listener { .. } => Failure::failed(failed.to_string()),
    }
}

fn another_address(kind: ErrorKind, key: &str) -> String {
    match kind {
        ErrorKind::AddrInUse => format!("stop what listens there, or set {key} to a free address"),
        ErrorKind::PermissionDenied => {
            format!("ports below 1024 are for root and CAP_NET_BIND_SERVICE: set {key} to another port")
        }
        ErrorKind::AddrNotAvailable => format!("set {key} to an address of this machine"),
        _ => format!("set {key} to an address that can be bound"),
    }
}

/// What is wrong with the data directory, and what to do about it.
fn of_directory(directory: &Path, error: &StoreError) -> Failure {
    let directory = directory.display();
    match error {
        StoreError::NotEmpty { .. } | StoreError::NotADirectory { .. } => {
            Failure::usage(format!("data directory {directory} is refused: {error}"))
        }
        StoreError::Damaged { .. } => Failure::failed(format!("data directory {directory} is refused: {error}")),
        StoreError::InUse { .. } => Failure::usage(format!(
            "data directory {directory} is in use by another process: stop that one, or set another data_dir"
        )),
        StoreError::Io { .. } | StoreError::NoDataDirectory { .. } | StoreError::Failed(_) => Failure::failed(format!(
            "data directory {directory} cannot be opened: {error}; check its disk and permissions"
        )),
    }
}

fn of_broker(failed: &BrokerFailed) -> Failure {
    match failed {
        BrokerFailed::WrongCluster { .. }
        | BrokerFailed::InvalidSetting { .. }
        | BrokerFailed::RegistrationRefused(_) => Failure::usage(failed.to_string()),
        BrokerFailed::StorageIdMismatch { .. }
        | BrokerFailed::SetBack { .. }
        | BrokerFailed::Contradicted { .. }
        | BrokerFailed::Storage { .. }
        | BrokerFailed::Raft { .. } => Failure::failed(failed.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::exit::{FAILED, USAGE},
        types::{BrokerId, ClusterId, StorageId},
    };

    /// Seen once: a privileged port was to be made "a free address".
    #[test]
    fn an_address_that_cannot_be_bound_is_usage_and_each_reason_has_its_own_advice() {
        for (kind, advice) in [
            (ErrorKind::AddrInUse, "set client_bind to a free address"),
            (ErrorKind::PermissionDenied, "below 1024"),
            (ErrorKind::AddrNotAvailable, "an address of this machine"),
            (ErrorKind::InvalidInput, "an address that can be bound"),
        ] {
            let failure = of(&ServerFailed::Bind { key: "client_bind", address: "h:1".into(), cause: kind.into() });
            assert_eq!(failure.code, USAGE);
            for part in ["cannot listen on h:1 (client_bind)", advice] {
                assert!(failure.message.contains(part), "{failure:?}");
            }
        }
        assert_eq!(of(&ServerFailed::Alone { peers: vec![] }).code, USAGE);
    }

    #[test]
    fn refusals_say_what_to_do() {
        let directory = Path::new("/data/n1");
        let in_use = StoreError::InUse { directory: "/data/n1".into() };
        assert!(of_directory(directory, &in_use).message.contains("set another data_dir"));
        let to_do = "replace the replica".to_string();
        let damaged = StoreError::Damaged { what: "commit 7 is missing".into(), to_do };
        let text = of_directory(directory, &damaged).message;
        assert!(
            text.contains("/data/n1") && text.contains("commit 7") && text.contains("replace the replica"),
            "{text}"
        );
    }

    /// Seen once: what the operator must set otherwise ended with 1, as if a disk had failed.
    #[test]
    fn s4_what_a_setting_must_change_is_usage_and_what_happened_to_the_disk_is_not() {
        let (what, to_do) = (String::from("x"), String::from("y"));
        let damaged = StoreError::Damaged { what, to_do };
        let foreign = StoreError::NotEmpty { directory: "/d".into(), found: "thesis.tex".into() };
        let file = StoreError::NotADirectory { path: "/d".into() };
        let in_use = StoreError::InUse { directory: "/d".into() };
        let io = StoreError::Io { doing: "opening".into(), cause: "no space".into() };
        for (error, code) in [(foreign, USAGE), (file, USAGE), (in_use, USAGE), (damaged, FAILED), (io, FAILED)] {
            assert_eq!(of_directory(Path::new("/d"), &error).code, code, "{error}");
        }
        let detail = String::from("z");
        for (failed, code) in [
            (BrokerFailed::InvalidSetting { detail: detail.clone() }, USAGE),
            (BrokerFailed::WrongCluster { found: ClusterId(1), expected: ClusterId(2) }, USAGE),
            (
                BrokerFailed::StorageIdMismatch { broker: BrokerId(1), registered: StorageId(1), found: StorageId(2) },
                FAILED,
            ),
            (BrokerFailed::Storage { detail }, FAILED),
        ] {
            assert_eq!(of_broker(&failed).code, code, "{failed}");
        }
    }
}
