//! Records that are older than what their topic keeps: acknowledged, and deleted at retention's next look. Said once,
//! where the one stands who can do something about it.

use super::super::units;
use crate::types::WallMs;

pub struct Outdated {
    topic: String,
    /// How long the topic keeps what is dated by its producer. `None` says for ever, or that it is known no longer;
    /// then nothing is said.
    keeps_ms: Option<i64>,
    is_said: bool,
}

impl Outdated {
    /// Has not warned yet; `keeps_ms` says how long the topic keeps what is dated by its producer.
    pub fn new(topic: &str, keeps_ms: Option<i64>) -> Outdated {
        Outdated { topic: topic.into(), keeps_ms, is_said: false }
    }

    /// A warning, at the first record that is too old. `timestamp`: as the input has it.
    pub fn warning(&mut self, timestamp: WallMs, now: WallMs) -> Option<String> {
        let keeps_ms = self.keeps_ms.filter(|_| !self.is_said)?;
        if timestamp.0 >= now.0.saturating_sub(keeps_ms) {
            return None;
        }
        self.is_said = true;
        Some(format!(
            "warning: {} keeps records for {} (retention.ms), and there are older ones in the input, the first from {}: \
             they are acknowledged, and deleted soon after; are their timestamps in milliseconds?",
            self.topic,
            units::human_ms(keeps_ms),
            units::human_time(timestamp)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallMs = WallMs(1_764_000_000_000);
    const DAY_MS: i64 = 86_400_000;

    #[test]
    fn p21_the_first_record_past_its_time_is_said_and_no_other() {
        let mut outdated = Outdated::new("orders", Some(DAY_MS));
        assert_eq!(outdated.warning(NOW, NOW), None);
        assert_eq!(outdated.warning(WallMs(NOW.0 - DAY_MS), NOW), None, "it is kept for a moment yet");
        let said = outdated.warning(WallMs(NOW.0 / 1_000), NOW).expect("it counts seconds");
        for part in ["orders", "1d", "1970-01-21T10:00:00Z", "milliseconds"] {
            assert!(said.contains(part), "no {part} in {said}");
        }
        assert_eq!(outdated.warning(WallMs(0), NOW), None, "once");
    }

    #[test]
    fn what_is_kept_for_ever_or_unknown_is_never_too_old() {
        assert_eq!(Outdated::new("t", None).warning(WallMs(0), NOW), None);
        assert_eq!(Outdated::new("t", Some(i64::MAX)).warning(WallMs(-5), NOW), None);
    }
}
