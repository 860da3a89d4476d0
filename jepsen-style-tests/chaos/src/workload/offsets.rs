//! W4: asks for the ends of partitions, over and over.

use std::time::Duration;

use flotilla::client::{Admin, OffsetAt, PartitionId, TopicPartition};
use logcheck::event::{Body, Outcome, Which};
use tokio::time::sleep;

use super::{Context, errors, process};
use crate::error::ChaosError;

/// So many ask at once, each of a cluster connection of its own.
pub const ASKERS: u32 = 2;
const CALL_MAX: Duration = Duration::from_secs(5);
const BETWEEN: Duration = Duration::from_millis(50);

/// Asks until the run ends.
pub async fn run(context: Context, number: u32) -> Result<(), ChaosError> {
    let admin = Admin::new(context.client()?, CALL_MAX);
    let mut scribe = context.worker(&format!("offsets-{number}"))?;
    let (process, mut random) = (process::OFFSETS + number, fastrand::Rng::with_seed(u64::from(number)));
    loop {
        let key = random.u32(..context.partitions);
        let (which, at) = match random.u8(..4) {
            0 => (Which::Earliest, OffsetAt::Earliest),
            _ => (Which::Latest, OffsetAt::Latest),
        };
        let op = scribe.begin(process, Body::ListOffsets { key, which })?;
        let partition = TopicPartition::new(&*context.topic, PartitionId(key as i32));
        let asked = tokio::select! {
            asked = admin.offset_at(&partition, at) => asked,
            () = context.ending() => break,
        };
        let listed = match asked {
            Ok(offset) => Body::Listed { outcome: Outcome::Ok, error: 0, offset: offset.0 },
            Err(error) => Body::Listed { outcome: Outcome::Info, error: errors::code(&error), offset: -1 },
        };
        scribe.complete(process, op, listed)?;
        sleep(BETWEEN).await;
    }
    scribe.finish()
}
