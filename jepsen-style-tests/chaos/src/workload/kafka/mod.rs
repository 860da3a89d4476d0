//! The workloads of Kafka clients: librdkafka as people have it, through the brokers' Kafka listeners.
//!
//! It calls back on the thread that polls it, so each client has a thread of its own. What it says of an error is not always
//! what the broker said last: it may have tried again after a try without an answer. So an error is recorded as an unknown
//! outcome, whatever its code.

pub mod group;
pub mod produce;
pub mod read;

use std::time::Duration;

use logcheck::{
    event::{Record, Run},
    payload::{self, DAMAGED},
};
use rdkafka::{ClientConfig, Message, error::KafkaError, message::BorrowedMessage};

use super::{Context, Stage, errors};
use crate::error::ChaosError;

/// How long a poll waits for the first record.
const POLL: Duration = Duration::from_millis(100);
/// So many records are one answer at most.
const RECORDS_MAX: usize = 500;
/// Of a request that gets no answer. Less than a hung disk or a paused broker lasts.
const SOCKET_TIMEOUT_MS: &str = "5000";

/// What all clients have in common.
fn config(context: &Context, name: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", context.cluster.kafka_brokers());
    config.set("client.id", name);
    config.set("socket.timeout.ms", SOCKET_TIMEOUT_MS);
    // They are asked for by number, so a broker that came back is found soon.
    config.set("reconnect.backoff.max.ms", "1000");
    config
}

fn cannot_open(client: &str) -> impl FnOnce(KafkaError) -> ChaosError + use<'_> {
    move |error| ChaosError::Kafka { what: format!("opening {client}"), error: error.to_string() }
}

/// A thread of its own for a client that blocks; its end is that of the task.
async fn on_thread(work: impl FnOnce() -> Result<(), ChaosError> + Send + 'static) -> Result<(), ChaosError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| ChaosError::Broken(error.to_string()))?
}

fn is_ending(context: &Context) -> bool {
    *context.stage.borrow() == Stage::Ending
}

/// The code of an error as histories have it: the broker's, or one for all that librdkafka says by itself.
fn code(error: &KafkaError) -> i16 {
    match error.rdkafka_error_code() {
        // Its own are below that of a broker with a fault, which is -1.
        Some(code) => i16::try_from(code as i32).ok().filter(|code| *code >= -1).unwrap_or(errors::KAFKA_CLIENT),
        None => errors::KAFKA_CLIENT,
    }
}

/// Adds a record to those of its partition, in the order in which it was handed over.
fn add(runs: &mut Vec<Run>, run: u32, message: &BorrowedMessage<'_>) {
    let key = message.partition() as u32;
    let value = message.payload().map_or(DAMAGED, |bytes| payload::read(run, key, bytes));
    let record = Record { offset: message.offset(), value };
    match runs.iter_mut().find(|run| run.key == key) {
        Some(of_key) => of_key.records.push(record),
        None => runs.push(Run { key, records: vec![record], ..Run::default() }),
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::types::RDKafkaErrorCode;

    use super::*;

    #[test]
    fn what_the_broker_said_has_its_code_and_all_else_the_clients_own() {
        let said = |code| super::code(&KafkaError::MessageProduction(code));
        assert_eq!(said(RDKafkaErrorCode::OutOfOrderSequenceNumber), 45);
        assert_eq!(said(RDKafkaErrorCode::Unknown), -1, "a fault of the broker's");
        assert_eq!(said(RDKafkaErrorCode::MessageTimedOut), errors::KAFKA_CLIENT);
        assert_eq!(said(RDKafkaErrorCode::OperationTimedOut), errors::KAFKA_CLIENT);
        assert_eq!(code(&KafkaError::Canceled), errors::KAFKA_CLIENT);
        assert!(crate::workload::modelled_errors().contains(&errors::KAFKA_CLIENT));
    }
}
