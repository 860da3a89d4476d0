//! What the log writer counts.

/// Counters of one store, cheap to clone, independent of how metrics are published.
#[derive(Clone, Debug, Default)]
pub struct WriterProbe {}
