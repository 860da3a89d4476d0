//! "Did you mean": the nearest of some names to one that was mistyped.

use super::exit::{Failure, NOT_FOUND};
use crate::client::{Admin, ClientError};

/// Names further away than this are other names, not typos.
const TYPOS_MAX: usize = 2;

/// Of long names only so much is compared: the work is bounded whatever a cluster holds.
const COMPARED_CHARS_MAX: usize = 64;

/// Whether one may be a typo of the other.
pub fn is_close(a: &str, b: &str) -> bool {
    a != b && distance(a, b) <= typos_max(a, b)
}

/// The nearest of `names` that `typed` may be a typo of.
pub fn nearest<'a>(typed: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let close = names.into_iter().filter(|name| is_close(typed, name));
    close.min_by_key(|name| (distance(typed, name), name.len()))
}

/// A failure about this topic; if there is none of the name, with the topic that may have been meant.
pub async fn topic(error: ClientError, name: &str, admin: &Admin) -> Failure {
    let mut failure = Failure::of_read(error);
    if failure.code == NOT_FOUND
        && let Ok(topics) = admin.list_topics().await
        && let Some(meant) = nearest(name, topics.iter().map(|topic| topic.name.as_str()))
    {
        failure.message = format!("{}; did you mean {meant:?}?", failure.message);
    }
    failure
}

/// Returns how many typos there may be: short names differ in most of their letters from everything.
fn typos_max(a: &str, b: &str) -> usize {
    TYPOS_MAX.min(a.chars().count().min(b.chars().count()) / 2)
}

/// Counts the letters to put in, leave out, exchange or swap with the next until one is the other; capitals count as
/// small.
fn distance(a: &str, b: &str) -> usize {
    let letters = |text: &str| -> Vec<char> { text.to_lowercase().chars().take(COMPARED_CHARS_MAX).collect() };
    let (a, b) = (letters(a), letters(b));
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = match (i, j) {
                (0, n) | (n, 0) => n,
                _ => {
                    let exchanged = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                    let is_swap = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                    let swapped = if is_swap { rows[i - 2][j - 2] + 1 } else { usize::MAX };
                    (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(exchanged).min(swapped)
                }
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_what_was_meant() {
        let topics = ["orders", "payments", "audit.log", "a"];
        for (typed, meant) in [
            ("ordres", Some("orders")),
            ("order", Some("orders")),
            ("Orders", Some("orders")),
            ("audit_log", Some("audit.log")),
            ("shipments", None),
            ("b", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, topics), meant, "{typed}");
        }
        assert!(is_close("jsno", "json") && is_close("JSON", "json") && !is_close("%v\\n", "json"));
        assert!(!is_close(&"x".repeat(10_000), "json"));
    }
}
