//! What clients were refused, or closed for, to protect the others.

use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::ReasonLabel;

/// Counts of the listeners. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct IntakeProbe {
    connections_refused: Family<ReasonLabel, Counter>,
    slow_peers_closed: Family<ReasonLabel, Counter>,
}

impl IntakeProbe {
    /// A connection was closed as soon as it was accepted, or could not be accepted. `reason`: "limit" (of
    /// connections), "descriptors" (of the process) or "accept".
    pub fn connection_refused(&self, reason: &'static str) {
        self.connections_refused.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Connections were closed because others waited for what their peers held up. `reason`: what was held.
    pub fn slow_peers_closed(&self, reason: &'static str, count: u64) {
        self.slow_peers_closed.get_or_create(&ReasonLabel { reason }).inc_by(count);
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Connections closed at once, or not accepted, by reason";
        registry.register("connections_refused", help, self.connections_refused.clone());
        let help = "Connections closed because others waited for what their peers held up, by what was held";
        registry.register("slow_peers_closed", help, self.slow_peers_closed.clone());
    }
}
