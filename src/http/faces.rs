//! What handlers are given, and the query that they are asked with.

use std::{collections::BTreeMap, sync::Arc};

use axum::extract::{Query, State};

use crate::metrics::Metrics;

/// What a handler is given.
pub(super) struct Faces<B> {
    pub backend: B,
    pub metrics: Metrics,
}

pub(super) type Shared<B> = State<Arc<Faces<B>>>;
pub(super) type Pairs = Query<BTreeMap<String, String>>;
