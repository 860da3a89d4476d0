//! Batches as producers send them.

use bytes::Bytes;
use flotilla::{
    record::{BatchBuilder, BatchHeader, Codec, Record},
    types::WallMs,
};

/// When all of it happens.
pub const WALL: WallMs = WallMs(1_700_000_000_000);

/// Some records with values of so many bytes: words, which a codec makes smaller, and a number that it cannot.
pub fn batch(records: usize, value_bytes: usize, codec: Codec) -> (Bytes, BatchHeader) {
    let mut builder = BatchBuilder::new(codec);
    for number in 0..records {
        let value = format!("record {number} of many that look much the same; ").into_bytes();
        let value: Vec<u8> = value.iter().copied().cycle().take(value_bytes).collect();
        let key = Some(Bytes::from(format!("key-{number}")));
        let record = Record { key, value: Some(value.into()), headers: vec![], timestamp: WALL };
        builder.push(&record).expect("it fits");
    }
    let batch = builder.build().expect("it fits");
    let header = BatchHeader::parse(&batch).expect("it was just built");
    (batch, header)
}
