//! How a `produce` ended: what is stored of what was read, and the exit code that says so.

use crate::{
    cli::exit::{FAILED, Failure, PARTIAL, UNKNOWN},
    client::{Delivery, Outcome},
};

/// How many records ended in which way.
#[derive(Debug, Default, PartialEq)]
pub struct Tally {
    /// The producer took so many; each of them ends as one of the following.
    pub taken: u64,
    pub acked: u64,
    /// How many of those that were acknowledged stand in a partition behind records that failed, or whose outcome is
    /// unknown: who goes on from the failure has them twice.
    pub behind: u64,
    /// How many records were handed, with acks=0, to a connection; nobody knows more of them.
    pub sent: u64,
    pub failed: u64,
    pub unknown: u64,
    pub first_error: Option<String>,
}

impl Tally {
    pub fn count(&mut self, delivery: &Delivery) {
        let records = delivery.tags.len() as u64;
        let error = match &delivery.outcome {
            Outcome::Acked(_) => {
                self.behind += if delivery.after_failure { records } else { 0 };
                return self.acked += records;
            }
            Outcome::Sent => return self.sent += records,
            Outcome::Failed(error) => {
                self.failed += records;
                error
            }
            Outcome::Unknown(error) => {
                self.unknown += records;
                error
            }
            // Nobody can tell which of those that were sent are stored.
            Outcome::Dropped(error) => {
                self.unknown += std::mem::take(&mut self.sent);
                error
            }
        };
        self.first_error.get_or_insert_with(|| error.to_string());
    }

    /// What to exit with, and why. `ended`: why reading, waiting or printing ended early, if it did.
    pub fn verdict(&self, ended: Result<(), Failure>) -> Result<(), Failure> {
        let Tally { taken, acked, sent, failed, unknown, .. } = *self;
        // Nobody waited for the others.
        let unknown = unknown + taken.saturating_sub(acked + sent + failed + unknown);
        let early = match ended {
            Ok(()) if failed + unknown == 0 => return Ok(()),
            Ok(()) => None,
            Err(failure) => Some(failure),
        };
        let code = match &early {
            _ if unknown > 0 => UNKNOWN,
            Some(failure) if failure.is_by_signal() => failure.code,
            _ if acked + sent > 0 => PARTIAL,
            Some(failure) if failed == 0 => failure.code,
            Some(_) | None => FAILED,
        };
        let reasons = self.first_error.clone().into_iter().chain(early.map(|failure| failure.message));
        let reasons: Vec<String> = reasons.filter(|reason| !reason.is_empty()).collect();
        let mut message = self.counts(unknown);
        if taken == 0 {
            message.clear();
        } else if !reasons.is_empty() {
            message.push_str(": ");
        }
        message.push_str(&reasons.join("; "));
        Err(Failure { code, message })
    }

    fn counts(&self, unknown: u64) -> String {
        let Tally { acked, sent, failed, .. } = *self;
        let mut counts = match sent {
            0 => format!("{acked} records acknowledged"),
            _ => format!("{sent} records sent (acks=0: nobody knows whether they are stored)"),
        };
        if self.behind > 0 {
            counts.push_str(&format!(" ({} of them behind what failed)", self.behind));
        }
        if failed > 0 {
            counts.push_str(&format!(", {failed} failed without effect"));
        }
        if unknown > 0 {
            counts.push_str(&format!(", {unknown} with unknown outcome"));
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(acked: u64, failed: u64, unknown: u64) -> Tally {
        Tally { taken: acked + failed + unknown, acked, failed, unknown, ..Default::default() }
    }

    fn code(tally: &Tally, ended: Result<(), Failure>) -> Option<u8> {
        tally.verdict(ended).err().map(|failure| failure.code)
    }

    #[test]
    fn unknown_outranks_partial_outranks_failed_outranks_done() {
        assert_eq!(code(&tally(1, 0, 0), Ok(())), None);
        assert_eq!(code(&tally(0, 2, 0), Ok(())), Some(1), "nothing is stored");
        assert_eq!(code(&tally(1, 2, 0), Ok(())), Some(5), "one is");
        assert_eq!(code(&tally(1, 2, 3), Ok(())), Some(3));
    }

    #[test]
    fn what_is_stored_behind_a_failure_is_said() {
        let tally = Tally { behind: 2, ..tally(5, 1, 0) };
        let failure = tally.verdict(Ok(())).expect_err("one failed");
        assert_eq!(failure.message, "5 records acknowledged (2 of them behind what failed), 1 failed without effect");
    }

    #[test]
    fn a_malformed_record_says_how_many_before_it_are_stored() {
        let malformed = || Err(Failure::usage("record 4 of the input: nonsense"));
        assert_eq!(tally(0, 0, 0).verdict(malformed()), malformed(), "as if it had not begun");
        let failure = tally(3, 0, 0).verdict(malformed()).expect_err("malformed");
        assert_eq!(failure.code, 5);
        assert_eq!(failure.message, "3 records acknowledged: record 4 of the input: nonsense");
    }

    #[test]
    fn a_signal_has_the_code_of_a_signal_unless_something_is_unknown() {
        let signal = || Err(Failure::by_signal("SIGINT", "SIGINT"));
        assert_eq!(code(&tally(3, 0, 0), signal()), Some(130));
        assert_eq!(code(&tally(0, 0, 0), signal()), Some(130));
        let unsettled = Tally { taken: 4, acked: 3, ..Default::default() };
        let failure = unsettled.verdict(signal()).expect_err("ended");
        assert_eq!(failure.code, 3);
        assert!(failure.message.contains("1 with unknown outcome"), "{}", failure.message);
    }
}
