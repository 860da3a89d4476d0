//! A consumer as Kafka's clients are: one Fetch under way to each broker, the next one sent before the records of the
//! last are looked at, and partitions that had something asked for last.

use std::{cell::RefCell, collections::VecDeque};

use bytes::Bytes;
use flotilla::record::{BATCH_BYTES_MAX, BatchLimits, validate_batch, walk};
use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::{
    Failed, histogram,
    wire::{Connection, Led, Of},
};

/// How far one partition is read.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub partition: i32,
    next: i64,
    end: i64,
}

/// What came.
pub struct Read {
    pub records: u64,
    /// Of each answer: how long it was waited for.
    pub latency: Histogram<u64>,
}

impl Place {
    fn is_at_end(&self) -> bool {
        self.next >= self.end
    }
}

/// Everything that a topic holds now.
pub async fn whole(topic: &str, leaders: &[Led]) -> Result<Vec<Place>, Failed> {
    let ends = try_join_all(leaders.iter().map(async |led| {
        let mut connection = Connection::open(&led.address).await?;
        Ok::<_, Failed>(connection.ends(topic, &led.partitions).await?)
    }));
    let place = |Of { partition, code, said }: Of<i64>| match code {
        0 => Ok(Place { partition, next: 0, end: said }),
        code => Err(Failed::Refused { code, partition }),
    };
    ends.await?.into_iter().flatten().map(place).collect()
}

/// Reads until every place is at its end, or its leader has moved.
pub async fn run(topic: &str, leaders: &[Led], places: &mut [Place], read: &mut Read) -> Result<(), Failed> {
    let all = RefCell::new(read);
    let parts = leaders.iter().map(|led| {
        let here = places.iter().filter(|place| led.partitions.contains(&place.partition) && !place.is_at_end());
        one_broker(topic, led, here.copied().collect(), &all)
    });
    let (reached, failed): (Vec<_>, Vec<_>) = futures_util::future::join_all(parts).await.into_iter().unzip();
    for reached in reached.into_iter().flatten() {
        let place = places.iter_mut().find(|place| place.partition == reached.partition);
        *place.expect("it was one of them") = reached;
    }
    failed.into_iter().flatten().next().map_or(Ok(()), Err)
}

pub fn is_done(places: &[Place]) -> bool {
    places.iter().all(Place::is_at_end)
}

/// How far it came, and why no further.
async fn one_broker(
    topic: &str,
    led: &Led,
    places: VecDeque<Place>,
    read: &RefCell<&mut Read>,
) -> (VecDeque<Place>, Option<Failed>) {
    let mut reading = Reading { places, read };
    let ended = reading.read_to_end(topic, &led.address).await;
    (reading.places, ended.err())
}

struct Reading<'a, 'b> {
    /// Whose turn it is comes first.
    places: VecDeque<Place>,
    read: &'a RefCell<&'b mut Read>,
}

impl Reading<'_, '_> {
    async fn read_to_end(&mut self, topic: &str, address: &str) -> Result<(), Failed> {
        if self.open().next().is_none() {
            return Ok(());
        }
        let Connection { mut asking, mut answers } = Connection::open(address).await?;
        asking.fetch(topic, self.open()).await?;
        loop {
            let asked = Instant::now();
            let answer = answers.fetched().await?;
            self.read.borrow_mut().latency.saturating_record(asked.elapsed().as_micros() as u64);
            let came = self.take(answer)?;
            let goes_on = self.open().next().is_some();
            if goes_on {
                asking.fetch(topic, self.open()).await?;
            }
            came.iter().for_each(check);
            if !goes_on {
                return Ok(());
            }
        }
    }

    fn open(&self) -> impl Iterator<Item = (i32, i64)> {
        self.places.iter().filter(|place| !place.is_at_end()).map(|place| (place.partition, place.next))
    }

    /// The batches of an answer, each of which begins where the one before ended.
    fn take(&mut self, answer: Vec<Of<Bytes>>) -> Result<Vec<Bytes>, Failed> {
        let mut batches = Vec::new();
        for Of { partition, code, said } in answer {
            if code != 0 {
                return Err(Failed::Refused { code, partition });
            }
            if said.is_empty() {
                continue;
            }
            let at = self.places.iter().position(|place| place.partition == partition).expect("it was asked for");
            let mut place = self.places.remove(at).expect("it was just found");
            for batch in walk(&said) {
                let (header, range) = batch.unwrap_or_else(|error| panic!("partition {partition}: {error}"));
                assert_eq!(header.base_offset.0, place.next, "partition {partition}: offsets are dense");
                place.next = header.last_offset().0 + 1;
                self.read.borrow_mut().records += header.count as u64;
                batches.push(said.slice(range));
            }
            self.places.push_back(place);
        }
        Ok(batches)
    }
}

/// What every client does with a batch: its checksum.
fn check(batch: &Bytes) {
    let limits = BatchLimits { batch_bytes_max: BATCH_BYTES_MAX };
    validate_batch(batch, &limits).unwrap_or_else(|error| panic!("a batch that was stored: {error}"));
}

impl Read {
    pub fn nothing() -> Read {
        Read { records: 0, latency: histogram() }
    }
}
