//! Waits of a shutdown, none of which may last.

use std::time::Duration;

/// What a future comes to, unless it takes too long; that is logged, and the shutdown goes on.
pub async fn bounded<T>(what: &'static str, within: Duration, future: impl Future<Output = T>) -> Option<T> {
    let result = tokio::time::timeout(within, future).await.ok();
    if result.is_none() {
        tracing::warn!(?within, "{what} took too long and was given up");
    }
    result
}
