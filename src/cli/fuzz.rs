//! What users, their files and their shells hand to the command line.

use super::{contexts, offsets, topic, units};
use crate::formats::fuzz::{bounded, fuzz, linear};
use crate::types::{Offset, WallMs};

/// JSON of empty lists of strings: 24 bytes for three, and a vector that is being doubled; a map has nodes of eleven.
const PER_BYTE: usize = 512;

#[test]
fn fuzz_files_of_contexts() {
    let full =
        br#"{"current":"prod","contexts":{"prod":{"brokers":["a:1","b:2"]},"l":{"brokers":[],"local_dir":"/d"}}}"#;
    for file in [&full[..], br#"{"current":null}"#] {
        assert!(contexts::read(file).is_ok());
    }
    fuzz!([&full[..], br#"{"current":null}"#, b"{}"], |bytes| {
        let Ok(read) = bounded(bytes.len(), PER_BYTE, || contexts::read(bytes)) else { return };
        let written = serde_json::to_vec_pretty(&read).expect("it is written whole");
        let again = contexts::read(&written).expect("our own file");
        assert_eq!((again.current, again.contexts), (read.current, read.contexts));
    });
    let nested = |bytes: usize| format!("{{\"other\":{}", "[".repeat(bytes)).into_bytes();
    linear(nested, |file| assert!(contexts::read(&file).is_err()));
    let many = |bytes: usize| {
        format!("{{\"contexts\":{{\"a\":{{\"brokers\":[{}\"\"]}}}}}}", "\"\",".repeat(bytes / 3)).into_bytes()
    };
    linear(many, |file| assert!(contexts::read(&file).is_ok()));
}

#[test]
fn fuzz_words_of_the_command_line() {
    let words =
        ["start", "17", "-5", "@1000", "@1970-01-01T00:00:02Z", "@-1h", "3:9", ":9", "1.5GiB", "300ms", "k=v", "end"];
    fuzz!(words.map(|word| word.as_bytes().to_vec()), |bytes| {
        let text = String::from_utf8_lossy(bytes);
        if let Ok(span) = offsets::parse(&text) {
            for now in [WallMs(0), WallMs(i64::MAX), WallMs(i64::MIN)] {
                let _ = span.start.at(now);
            }
            assert!(span.end.is_none_or(|end| end >= Offset(0)));
        }
        for parsed in [units::duration(&text).is_ok(), units::wait(&text).is_ok(), units::poll_interval(&text).is_ok()]
        {
            assert!(!parsed || !text.is_empty());
        }
        assert!(units::partition(&text).is_ok_and(|partition| partition >= 0) || units::partition(&text).is_err());
        assert!(units::offset(&text).is_ok_and(|offset| offset >= 0) || units::offset(&text).is_err());
        let _ = (units::count::<u32>(&text), units::room(&text), units::size(&text));
        if let Ok((key, value)) = units::key_value(&text) {
            assert_eq!(format!("{key}={value}"), text);
        }
        let _ = topic::parse_before(&text).map(|before| assert!(before >= -1));
    });
}
