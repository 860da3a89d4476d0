//! How a command ends: exit codes, frozen, and the one line on stderr.

use std::process::ExitCode;

use super::terminal::say;
use crate::client::{ClientError, Effect};

/// The command failed without effect.
pub const FAILED: u8 = 1;
/// The command line makes no sense, or a server's settings cannot be: the same again would end the same.
pub const USAGE: u8 = 2;
/// A write may or may not have happened.
pub const UNKNOWN: u8 = 3;
pub const NOT_FOUND: u8 = 4;
/// It ended early: what was done until then counts, and stderr says how much that is.
pub const PARTIAL: u8 = 5;
pub const UNHEALTHY: u8 = 10;
/// What was asked about is not known.
pub const VERDICT_UNKNOWN: u8 = 11;
/// A fault of this program (EX_SOFTWARE of sysexits.h).
pub const OUR_FAULT: u8 = 70;
/// Nobody reads standard output any more: what a shell says of a program that SIGPIPE ended.
pub const CLOSED_PIPE: u8 = 128 + 13;
/// A shell says of a program that a signal ended that its exit code is this and the signal's number, and so do we.
const BY_SIGNAL: u8 = 128;

/// Why a command did not end with 0.
#[derive(Debug, PartialEq)]
pub struct Failure {
    pub code: u8,
    pub message: String,
}

impl Failure {
    pub fn failed(message: impl Into<String>) -> Failure {
        Failure { code: FAILED, message: message.into() }
    }

    pub fn usage(message: impl Into<String>) -> Failure {
        Failure { code: USAGE, message: message.into() }
    }

    pub fn unknown(message: impl Into<String>) -> Failure {
        Failure { code: UNKNOWN, message: message.into() }
    }

    pub fn not_found(message: impl Into<String>) -> Failure {
        Failure { code: NOT_FOUND, message: message.into() }
    }

    pub fn unhealthy(message: impl Into<String>) -> Failure {
        Failure { code: UNHEALTHY, message: message.into() }
    }

    pub fn verdict_unknown(message: impl Into<String>) -> Failure {
        Failure { code: VERDICT_UNKNOWN, message: message.into() }
    }

    /// Whoever read standard output has enough; that needs no words.
    pub fn closed_pipe() -> Failure {
        Failure { code: CLOSED_PIPE, message: String::new() }
    }

    /// A signal asked for the end.
    pub fn by_signal(signal: &str, message: &str) -> Failure {
        let number = match signal {
            "SIGHUP" => 1,
            "SIGINT" => 2,
            _ => 15,
        };
        Failure { code: BY_SIGNAL + number, message: message.into() }
    }

    pub fn is_by_signal(&self) -> bool {
        self.code > BY_SIGNAL && self.code != CLOSED_PIPE
    }

    /// Makes a failure of a command that only reads: nothing it did has an effect.
    pub fn of_read(error: ClientError) -> Failure {
        let failure = Failure::from(error);
        if failure.code == UNKNOWN { Failure { code: FAILED, ..failure } } else { failure }
    }

    /// Says it on stderr.
    pub fn report(self) -> ExitCode {
        if !self.message.is_empty() {
            say(&format!("flotilla: {}", self.message));
        }
        ExitCode::from(self.code)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        let code = match error.effect() {
            Effect::Unknown => UNKNOWN,
            Effect::Nothing if error.is_not_found() => NOT_FOUND,
            Effect::Nothing => FAILED,
        };
        let mut message = error.to_string();
        match code {
            UNKNOWN => message.push_str(" (outcome unknown: it may or may not have happened)"),
            NOT_FOUND if matches!(error, ClientError::NoTopic { .. }) => {
                message.push_str("; `flotilla topic list` shows those that do");
            }
            _ => {}
        }
        Failure { code, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_follow_effects() {
        let lost = ClientError::Lost { address: "a:1".into(), detail: "x".into() };
        assert_eq!(Failure::from(lost.clone()).code, 3);
        assert_eq!(Failure::of_read(lost).code, 1);
        assert_eq!(Failure::from(ClientError::NoTopic { topic: "t".into() }).code, 4);
        assert_eq!(Failure::from(ClientError::Closed).code, 1);
    }
}
