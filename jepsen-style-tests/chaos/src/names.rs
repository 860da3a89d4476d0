//! What a run calls the topics and groups that it makes.

use std::sync::Arc;

/// On a cluster of the run's own.
const OWN: &str = "chaos";

#[derive(Clone, Debug)]
pub struct Names {
    /// What is acknowledged here must be there at the end.
    pub topic: Arc<str>,
    /// The topic that keeps next to nothing.
    pub short: Arc<str>,
    pub group: Arc<str>,
    pub kafka_group: Arc<str>,
    /// What topics that come and go begin with.
    pub churn: Arc<str>,
}

impl Names {
    pub fn on_own_cluster() -> Names {
        Names::below(OWN)
    }

    /// Names that no other run has, and that say who made them.
    pub fn on_running_cluster(seed: u64, run: u32) -> Names {
        Names::below(&format!("{OWN}-{seed}-{run:08x}"))
    }

    fn below(prefix: &str) -> Names {
        let named = |of: &str| Arc::from(format!("{prefix}-{of}"));
        Names {
            topic: prefix.into(),
            short: named("short"),
            group: named("readers"),
            kafka_group: named("kafka-readers"),
            churn: named("churn"),
        }
    }

    pub fn groups(&self) -> [&str; 2] {
        [&self.group, &self.kafka_group]
    }

    /// Whether a topic is one of the run's.
    pub fn has(&self, topic: &str) -> bool {
        let of_churn = topic.strip_prefix(&*self.churn).is_some_and(|rest| rest.starts_with('-'));
        of_churn || [&*self.topic, &*self.short].contains(&topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_elses_topic_is_taken_for_the_runs_own() {
        let names = Names::on_running_cluster(1, 0xABC);
        let own = ["chaos-1-00000abc", "chaos-1-00000abc-short", "chaos-1-00000abc-churn-7"];
        assert!(own.iter().all(|name| names.has(name)), "{names:?}");
        let others = ["chaos", "orders", "chaos-1-00000abd", "chaos-1-00000abc-churned", "chaos-1-00000abc-2", ""];
        assert!(others.iter().all(|name| !names.has(name)), "{names:?}");
    }
}
