//! Producers: each is idempotent, appends one record at a time, and tries it again until it is acknowledged.

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use flotilla::{
    broker::{Acks, Caller, ProduceError, ProduceRequest, Receipt},
    record::Producer,
    seam::Clock,
    types::{PartitionId, ProducerEpoch, ProducerId, Sequence},
};
use tokio::time::Instant;

use super::known::{Load, PATIENCE, Phase, Place};
use crate::{checker::Acked, load::one_record};

const PRODUCE_TIMEOUT: Duration = Duration::from_secs(2);

/// How one record fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Acked,
    /// Its sequence is spent: whether it is there is not known.
    Refused,
    /// The topic is being deleted, or the run is over: nobody tries it any more.
    GivenUp,
}

/// One producer, of one partition at a time.
pub struct Sender {
    producer: Producer,
    number: u64,
    sent: u64,
    at: u64,
}

impl Sender {
    pub fn new(number: u64, at: u64) -> Sender {
        let producer = Producer { id: ProducerId(number as i64), epoch: ProducerEpoch(0), base_sequence: Sequence(0) };
        Sender { producer, number, sent: 0, at }
    }

    /// From now on under an id that nobody had.
    pub fn renew(&mut self) {
        let id = ProducerId(self.producer.id.0 + 100_000);
        self.producer = Producer { id, base_sequence: Sequence(0), ..self.producer };
    }
}

impl Load {
    pub async fn append_all(self: Rc<Self>, worker: u64) {
        let mut sender = Sender::new(1_000 + worker, self.any_node());
        let place = self.known.borrow().places[&((worker % self.plan.partitions as u64) as i32)].clone();
        while self.is_running() {
            match self.append(&place, &mut sender).await {
                End::Acked => {}
                End::Refused => sender.renew(),
                End::GivenUp => break,
            }
            self.pause(self.plan.pause_ms).await;
        }
    }

    /// One new record to one partition, by the rules of an idempotent producer.
    pub async fn append(&self, place: &Place, sender: &mut Sender) -> End {
        sender.sent += 1;
        let value = sender.number * 1_000_000 + sender.sent;
        self.known.borrow_mut().history.sent.insert((place.key, value));
        let batch = one_record(sender.producer, value, self.nodes[0].time.wall());
        self.known.borrow_mut().outstanding += 1;
        let end = self.append_until_answered(place, value, batch, &mut sender.at).await;
        self.known.borrow_mut().outstanding -= 1;
        if end == End::Acked {
            sender.producer.base_sequence = sender.producer.base_sequence.next();
        }
        end
    }

    async fn append_until_answered(&self, place: &Place, value: u64, batch: Bytes, at: &mut u64) -> End {
        let mut healed: Option<Instant> = None;
        loop {
            let outcome = self.try_append(place, batch.clone(), *at).await;
            self.note(format_args!("{} value {value} at n{at}: {outcome:?}", place.key));
            match outcome {
                Some(Ok(receipt)) => {
                    self.acknowledged(place, value, &receipt);
                    return End::Acked;
                }
                // The topic stays, so who does not know it has not heard of it yet.
                Some(Err(ProduceError::UnknownTopic { .. })) if place.topic != super::known::TOPIC => {
                    return End::GivenUp;
                }
                Some(Err(error)) if !error.is_retriable() => return End::Refused,
                Some(Err(error)) => *at = error.leader().map_or_else(|| self.any_node(), |leader| leader.broker.0),
                None => *at = self.any_node(),
            }
            if self.known.borrow().phase == Phase::Draining {
                let since = *healed.get_or_insert_with(Instant::now);
                if since.elapsed() > PATIENCE {
                    self.wrong(format!("value {value} of {} is not acknowledged within {PATIENCE:?}", place.key));
                    return End::GivenUp;
                }
            }
            self.pause(50).await;
        }
    }

    async fn try_append(&self, place: &Place, batch: Bytes, at: u64) -> Option<Result<Receipt, ProduceError>> {
        let request = ProduceRequest {
            topic: place.topic.clone(),
            topic_id: Some(place.id),
            partition: PartitionId(place.partition),
            acks: Acks::All,
            timeout: PRODUCE_TIMEOUT,
            batch,
            expected_offset: None,
        };
        let (witness, group) = (self.witness.clone(), place.group);
        self.ask(at, "a produce", move |broker| async move {
            let budget = broker.reserve_produce(request.batch.len()).await;
            let answer = broker.produce(&Caller::ANONYMOUS, request, budget)?.await;
            if let Ok(receipt) = &answer {
                witness.hold(group, receipt);
            }
            answer
        })
        .await
    }

    fn acknowledged(&self, place: &Place, value: u64, receipt: &Receipt) {
        self.count(if receipt.duplicate { "acked as retries" } else { "acked" });
        let (offset, index) = (receipt.base_offset.0, receipt.index.0);
        self.known.borrow_mut().history.acked.push(Acked { partition: place.key, value, offset, index });
    }
}
