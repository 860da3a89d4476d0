//! Records as users write them, in any format.

use bytes::Bytes;

use super::{tests::split_at, *};
use crate::{
    client::ConsumedRecord,
    formats::fuzz::{bounded, fuzz, linear},
    types::Offset,
};

/// An empty record is one byte of input, and 150 in memory in a list that is being doubled, or a sentence that says what
/// is wrong with it; in JSON a header is eight.
const PER_BYTE: usize = 1_024;

const FORMATS: [&str; 10] =
    ["%k:%v\\n", "%v--", "json", "%t/%p/%T %k=%v\\x00", "%%%v\\n", "%T:%v\\r\\n", "%", "%k%v\\n", "value", "%v\\n"];

const INPUTS: [&str; 6] = [
    "a:1\nb:2:3\nc:",
    "x-y--z----w",
    "{\"key\":\"k\",\"value\":{\"a\":1},\"headers\":{\"h\":null},\"timestamp\":5,\"partition\":3}\n",
    "{\"value_base64\":\"dg==\",\"headers\":[[\"a\",\"b\"],{\"key\":\"k\",\"value_base64\":\"\"}]}\r\n\n",
    "{\"value\":\"\\u00e4\\n\\\"\",\"topic\":\"t\"}",
    "t/3/77 k=v\0",
];

/// Reads an input in one format, in pieces of several sizes. False: it is no format.
fn check(format: &str, input: &[u8], steps: &[&[usize]]) -> bool {
    let options = || ReadOptions { keep_cr: input.len().is_multiple_of(2), null: Some("NULL".into()) };
    // A copy of the format is made with each reading.
    let bytes = input.len() + format.len();
    let Ok(format) = ReadFormat::parse(format, options()) else { return false };
    assert!(!format.end().is_empty());
    let whole = bounded(bytes, PER_BYTE, || split_at(format.clone(), input, &[usize::MAX]));
    for steps in steps {
        assert_eq!(split_at(format.clone(), input, steps), whole, "the same records, wherever the input was cut");
    }
    let json = ReadFormat::parse("json", ReadOptions::default()).expect("a format");
    let print = PrintFormat::parse(Some("json"), PrintOptions::default()).expect("a format");
    for read in whole.into_iter().flatten() {
        let mut line = Vec::new();
        print.print(&mut line, "t", 3, &ConsumedRecord { offset: Offset(5), record: read.record.clone() });
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1, "one line a record");
        let again = json.read_one(Bytes::from(line)).expect("our own line");
        assert_eq!(again.record, read.record);
    }
    true
}

/// Whether all of an input can be read, as it arrives in pieces.
fn is_read(format: &str, input: &[u8]) -> bool {
    let format = ReadFormat::parse(format, ReadOptions::default()).expect("a format");
    split_at(format, input, &[64 << 10]).iter().all(Result::is_ok)
}

#[test]
fn fuzz_records_of_every_format() {
    let seeds = FORMATS.iter().flat_map(|format| INPUTS.map(|input| format!("{format}\u{1}{input}").into_bytes()));
    fuzz!(seeds, |bytes| {
        let at = bytes.iter().position(|byte| *byte == 1).unwrap_or(bytes.len());
        let (format, input) = bytes.split_at(at);
        let format = String::from_utf8_lossy(format);
        let _ = PrintFormat::parse(Some(&format), PrintOptions::default());
        check(&format, &input[..input.len().min(2_000)][input.len().min(1)..], &[&[1], &[7, 2], &[64]]);
    });
    let lines = |bytes: usize| b"k:v\n".repeat(bytes / 4);
    linear(lines, |input| assert!(is_read("%k:%v\\n", &input)));
    let ends = |bytes: usize| b"k:v--".repeat(bytes / 5);
    linear(ends, |input| assert!(is_read("%k:%v--", &input)));
    let headers =
        |bytes: usize| format!("{{\"headers\":[{}[\"a\",\"b\"]]}}", "[\"a\",\"b\"],".repeat(bytes / 10)).into_bytes();
    linear(headers, |input| assert!(is_read("json", &input)));
}
