//! What the APIs that change something for operators share: one deadline for all that a request asks for, several
//! things of it at once, and what is said of those that were refused.

use std::{collections::BTreeMap, time::Duration};

use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use super::super::{
    codes::{self, Code},
    limits,
    wire::StrBytes,
};
use crate::broker::AdminError;

/// Why something that was asked for was not done, or is not known to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotDone {
    pub code: Code,
    pub words: StrBytes,
}

impl NotDone {
    pub fn new(code: Code, words: impl Into<StrBytes>) -> NotDone {
        NotDone { code, words: words.into() }
    }

    /// Two entries of one request mean the same thing, and may say different things of it.
    pub fn twice(what: &str) -> NotDone {
        NotDone::new(Code::InvalidRequest, format!("{what} is named more than once in this request"))
    }

    pub fn unsupported_resource(kind: i8) -> NotDone {
        NotDone::new(
            Code::InvalidRequest,
            format!("resources of type {kind} are not supported: topics (2) and brokers (4) are"),
        )
    }
}

impl From<AdminError> for NotDone {
    fn from(error: AdminError) -> NotDone {
        NotDone { code: codes::of_admin(&error), words: codes::words(&error) }
    }
}

/// Kafka's code and words for what came of something.
pub fn said<T>(result: &Result<T, NotDone>) -> (i16, Option<StrBytes>) {
    match result {
        Ok(_) => (Code::None.value(), None),
        Err(NotDone { code, words }) => (code.value(), Some(words.clone())),
    }
}

/// How long a request may take, all that it asks for together.
pub struct Within {
    deadline: Instant,
}

impl Within {
    /// As a client says it: nothing, or less, stands for the default.
    pub fn of(timeout_ms: i32) -> Within {
        let asked = u64::try_from(timeout_ms).ok().filter(|ms| *ms > 0).map(Duration::from_millis);
        let within = asked.unwrap_or(limits::ADMIN_WAIT_DEFAULT).min(limits::ADMIN_WAIT_MAX);
        Within { deadline: Instant::now() + within }
    }

    /// What is left of it; after it nothing is begun.
    pub fn left(&self) -> Result<Duration, NotDone> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        match left.is_zero() {
            false => Ok(left),
            true => Err(NotDone::new(Code::RequestTimedOut, "the time of this request was over before this was begun")),
        }
    }
}

/// Does something for each, several at once; what came of each, in their order.
pub async fn each<T, F: Future>(items: Vec<T>, does: impl Fn(T) -> F) -> Vec<F::Output> {
    let begun: Vec<F> = items.into_iter().map(does).collect();
    stream::iter(begun).buffered(limits::ADMIN_AT_ONCE).collect().await
}

/// What a topic is given goes into the metadata's log before it is looked at: that it is small is seen here.
pub fn check_size<'a>(configs: impl IntoIterator<Item = &'a str>) -> Result<(), NotDone> {
    let bytes: usize = configs.into_iter().map(str::len).sum();
    match bytes <= limits::CONFIGS_BYTES_MAX {
        true => Ok(()),
        false => {
            let words =
                format!("{bytes} bytes of configs for one topic, at most {} are taken", limits::CONFIGS_BYTES_MAX);
            Err(NotDone::new(Code::InvalidConfig, words))
        }
    }
}

/// Which names occur more than once.
pub struct Repeated(BTreeMap<String, bool>);

impl Repeated {
    pub fn among<'a>(names: impl IntoIterator<Item = &'a str>) -> Repeated {
        let mut seen = BTreeMap::new();
        for name in names {
            seen.entry(name.to_string()).and_modify(|twice| *twice = true).or_insert(false);
        }
        Repeated(seen)
    }

    pub fn check(&self, name: &str) -> Result<(), NotDone> {
        match self.0.get(name) {
            Some(true) => Err(NotDone::twice(name)),
            Some(false) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_without_a_time_gets_the_default_and_none_gets_more_than_the_most() {
        for (asked, least, most) in
            [(0, 29_000, 30_000), (-1, 29_000, 30_000), (1_000, 1, 1_000), (i32::MAX, 299_000, 300_000)]
        {
            let left = Within::of(asked).left().expect("it has just begun").as_millis();
            assert!((least..=most).contains(&left), "{asked}: {left}");
        }
        let over = Within { deadline: Instant::now() };
        assert_eq!(over.left().expect_err("it is over").code, Code::RequestTimedOut);
    }

    #[test]
    fn what_is_named_twice_is_refused_and_all_else_is_not() {
        let repeated = Repeated::among(["a", "b", "a"]);
        assert_eq!(repeated.check("a").expect_err("twice").code, Code::InvalidRequest);
        assert!(repeated.check("b").is_ok() && repeated.check("c").is_ok());
    }

    #[test]
    fn configs_of_a_topic_are_small() {
        let value = "1".repeat(limits::CONFIGS_BYTES_MAX);
        assert!(check_size([value.as_str()]).is_ok());
        assert_eq!(check_size(["a", value.as_str()]).expect_err("too large").code, Code::InvalidConfig);
    }

    #[tokio::test]
    async fn what_came_of_each_keeps_the_order() {
        let doubled = each(vec![3_u64, 1, 2], |n| async move {
            for _ in 0..n {
                tokio::task::yield_now().await;
            }
            n * 2
        });
        assert_eq!(doubled.await, [6, 2, 4]);
    }
}
