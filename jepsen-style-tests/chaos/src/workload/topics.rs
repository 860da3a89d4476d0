//! W5: topics are created, deleted and described by two who do not know of each other.
//!
//! A broker describes a topic that it knows from memory, which may be old: such an answer must have been true at some time.
//! That there is no such topic it says only of fresh metadata: such an answer is held against what was acknowledged.

use std::time::Duration;

use flotilla::client::{Admin, ClientError, Effect, ErrorCode, TopicDescription};
use logcheck::event::{AdminCall, AdminResult, Body};
use tokio::time::{Instant, sleep};

use super::{Context, errors, process};
use crate::error::ChaosError;

pub const OPERATORS: u32 = 2;
const CALL_MAX: Duration = Duration::from_secs(5);
const BETWEEN_MS: std::ops::Range<u64> = 50..300;
/// So many names at a time, ...
const NAMES: u32 = 2;
/// ... for so long: then others, so that no topic has too long a history.
const NAMES_FOR: Duration = Duration::from_secs(8);
/// What tells topics of one name apart: retention in milliseconds, from an hour on.
const CONFIG: &str = "retention.ms";
const CONFIG_MIN: u64 = 3_600_000;

/// Administers topics until the run ends.
pub async fn run(context: Context, number: u32, began: Instant) -> Result<(), ChaosError> {
    let admin = Admin::new(context.client()?, CALL_MAX);
    let mut scribe = context.worker(&format!("topics-{number}"))?;
    let (process, mut random) = (process::OPERATORS + number, fastrand::Rng::with_seed(u64::from(number)));
    loop {
        let round = (began.elapsed().as_secs() / NAMES_FOR.as_secs()) as u32;
        let topic = round * NAMES + random.u32(..NAMES);
        let call = match random.u8(..10) {
            0..3 => AdminCall::Create { partitions: random.u32(1..4), config: CONFIG_MIN + random.u64(..CONFIG_MIN) },
            3..5 => AdminCall::Delete,
            _ => AdminCall::Describe,
        };
        let op = scribe.begin(process, Body::Admin { topic, call })?;
        let (result, error) = tokio::select! {
            done = ask(&admin, &context, topic, call) => done,
            () = context.ending() => break,
        };
        scribe.complete(process, op, Body::Administered { result, error })?;
        sleep(Duration::from_millis(random.u64(BETWEEN_MS))).await;
    }
    scribe.finish()
}

async fn ask(admin: &Admin, context: &Context, topic: u32, call: AdminCall) -> (AdminResult, i16) {
    let name = format!("{}-{topic}", context.names.churn);
    let done = match call {
        AdminCall::Create { partitions, config } => {
            let create = admin.create_topic(name).partitions(partitions as i32).config(CONFIG, config.to_string());
            create.replicas(context.cluster.replicas().min(3)).send().await.map(|_| AdminResult::Done)
        }
        AdminCall::Delete => admin.delete_topic(name).send().await.map(|_| AdminResult::Done),
        _ => admin.describe_topic(&name).await.map(|topic| remembered(&topic)),
    };
    match done {
        Ok(result) => (result, 0),
        Err(error) => (refusal(&error), errors::code(&error)),
    }
}

/// Every topic of this workload is made with the setting, so one that shows none was never made: no creation has a 0.
fn remembered(topic: &TopicDescription) -> AdminResult {
    let config = topic.configs.get(CONFIG).and_then(|value| value.parse().ok()).unwrap_or(0);
    AdminResult::Remembered { partitions: topic.partitions.len() as u32, config }
}

fn refusal(error: &ClientError) -> AdminResult {
    match (error.effect(), error.code()) {
        (Effect::Unknown, _) => AdminResult::Info,
        (Effect::Nothing, Some(ErrorCode::TopicExists)) => AdminResult::AlreadyExists,
        (Effect::Nothing, Some(ErrorCode::UnknownTopic)) => AdminResult::NotFound,
        (Effect::Nothing, _) => AdminResult::Refused,
    }
}
