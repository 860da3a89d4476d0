use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{
    client::ConsumedRecord,
    record::Record,
    types::{Offset, WallMs},
};

type Text = Option<String>;

fn text(bytes: Option<Bytes>) -> Text {
    bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn format(format: &str) -> ReadFormat {
    ReadFormat::parse(format, ReadOptions::default()).expect("a format")
}

fn exact(format: &str) -> ReadFormat {
    ReadFormat::parse(format, ReadOptions { keep_cr: true, null: None }).expect("a format")
}

/// Returns all that comes out of an input which arrives in pieces of these sizes, over and over.
pub(super) fn split_at(format: ReadFormat, input: &[u8], steps: &[usize]) -> Vec<Result<ReadRecord, String>> {
    let mut splitter = Splitter::new(format);
    let (mut rest, mut steps, mut got) = (input, steps.iter().cycle(), vec![]);
    loop {
        let step = rest.len().min(*steps.next().expect("a cycle"));
        splitter.buffer().extend_from_slice(&rest[..step]);
        rest = &rest[step..];
        while let Some(read) = splitter.next_record(step == 0) {
            got.push(read);
        }
        if step == 0 {
            return got;
        }
    }
}

fn split(of: ReadFormat, input: &[u8], step: usize) -> Vec<Result<(Text, Text), String>> {
    let reads = split_at(of, input, &[step]);
    reads.into_iter().map(|read| read.map(|r| (text(r.record.key), text(r.record.value)))).collect()
}

fn pair(key: &str, value: &str) -> Result<(Text, Text), String> {
    Ok((Some(key.into()), Some(value.into())))
}

fn value(value: &str) -> Result<(Text, Text), String> {
    Ok((None, Some(value.into())))
}

#[test]
fn records_are_cut_wherever_reads_end() {
    for step in 1..12 {
        assert_eq!(
            split(format("%k:%v\\n"), b"a:1\nb:2:3\nc:", step),
            [pair("a", "1"), pair("b", "2:3"), pair("c", "")]
        );
        assert_eq!(split(format("%v--"), b"x-y--z----w", step), ["x-y", "z", "", "w"].map(value));
        assert_eq!(split(format("%v\\n"), b"one\n\ntwo", step), ["one", "", "two"].map(value));
    }
    assert_eq!(split(format("%v\\n"), b"", 1), []);
    assert_eq!(split(format("%v\\n"), b"\n", 1), [value("")]);
}

/// The last record without its line end.
#[test]
fn the_last_record_counts_without_its_end() {
    for of in ["%v\\n", "%v--", "json"] {
        let line: &[u8] = if of == "json" { br#"{"value":"x"}"# } else { b"x" };
        for step in [1, 2, 100] {
            assert_eq!(split(format(of), line, step), [value("x")], "{of}");
        }
    }
}

#[test]
fn a_carriage_return_before_the_line_feed_is_part_of_the_line_end() {
    for step in 1..6 {
        assert_eq!(split(format("%v\\n"), b"a\r\n\r\nb\rc\nd\r", step), ["a", "", "b\rc", "d\r"].map(value));
        assert_eq!(split(exact("%v\\n"), b"a\r\nb", step), ["a\r", "b"].map(value));
        assert_eq!(split(format("%v;\\n"), b"a\r;\nb\r\n;\n", step), ["a\r", "b\r\n"].map(value));
        assert_eq!(split(format("json"), b"{\"value\":\"x\"}\r\n", step), [value("x")]);
    }
}

#[test]
fn what_stands_for_null_is_null_and_nothing_else() {
    let with = |null: &str| {
        let options = ReadOptions { null: Some(null.into()), ..Default::default() };
        ReadFormat::parse("%k:%v\\n", options).expect("a format")
    };
    let some = |text: &str| Some(text.to_string());
    assert_eq!(split(with(""), b":\nk:\n:v\n", 9), [Ok((None, None)), Ok((some("k"), None)), Ok((None, some("v")))]);
    assert_eq!(split(with("NULL"), b"k:NULL\nk:\n", 9), [Ok((some("k"), None)), pair("k", "")]);
}

#[test]
fn blank_lines_between_json_are_no_records() {
    let input = b"{\"value\":\"a\"}\n\n \t\r\n{\"value\":\"b\"}\n  ";
    assert_eq!(split(format("json"), input, 3), ["a", "b"].map(value));
    let error = split(format("json"), b"\n\nx", 3)[0].clone().expect_err("no JSON");
    assert!(error.contains("record 3 of the input"), "counted as lines are: {error}");
}

#[test]
fn a_record_never_borrows_its_separator_from_the_next() {
    let got = split(format("%k:%v\\n"), b"nokey\nb:2\n", 100);
    let error = got[0].clone().expect_err("no colon");
    assert!(error.contains("record 1") && error.contains("nokey") && error.contains(':'), "{error}");
    assert_eq!(got[1], pair("b", "2"));
}

#[test]
fn an_input_without_ends_is_refused_before_it_fills_the_memory() {
    let mut splitter = Splitter::new(format("%v\\0"));
    splitter.buffer().extend_from_slice(&vec![b'x'; 9 << 20]);
    let error = splitter.next_record(false).expect("a complaint").expect_err("no end");
    assert!(error.contains("8 MiB"), "{error}");
}

#[test]
fn all_readable_fields() {
    let format = format("<%t %p %T %k=%v;\\x0a");
    let read = format.read_one(Bytes::from_static(b"<orders 3 1700 k=v=w")).expect("reads");
    assert_eq!((read.topic.as_deref(), read.partition, read.has_timestamp), (Some("orders"), Some(3), true));
    assert_eq!(read.record.timestamp, WallMs(1700));
    assert_eq!(read.record.value.as_deref(), Some(&b"v=w"[..]));
    assert_eq!(format.end(), b";\n");
    for (line, named) in [("<t -1 5 k=v", "-1"), ("<t 0 -7 k=v", "-7"), ("<t 2147483648 5 k=v", "2147483648")] {
        let error = format.read_one(Bytes::from(line)).expect_err("out of range");
        assert!(error.contains(named), "{error}");
    }
}

#[test]
fn bad_formats_are_explained() {
    for bad in ["%k%v\\n", "%v", "abc", "%q\\n", "%", "\\", "\\q", "\\xzz", "\\x+1", "\\xé", "%o\\n", "%v %v\\n", ""] {
        assert!(ReadFormat::parse(bad, ReadOptions::default()).is_err(), "{bad}");
    }
    for typo in ["jsno", "JSON", "vlaue"] {
        let read = ReadFormat::parse(typo, ReadOptions::default()).expect_err("no field");
        let print = PrintFormat::parse(Some(typo), PrintOptions::default()).expect_err("no field");
        assert!(read.contains("did you mean") && print.contains("did you mean"), "{read}; {print}");
    }
}

fn printed(format: Option<&str>, options: PrintOptions, record: &Record) -> String {
    let mut out = vec![];
    let r = ConsumedRecord { offset: Offset(3), record: record.clone() };
    PrintFormat::parse(format, options).expect("a format").print(&mut out, "t", 2, &r);
    String::from_utf8(out).expect("text")
}

#[test]
fn printing() {
    let record = Record { key: None, value: Some("v".into()), headers: vec![], timestamp: WallMs(9) };
    let pipe = PrintOptions::default;
    assert_eq!(printed(Some("%t %p %o %k %v %T%%\\n"), pipe(), &record), "t 2 3  v 9%\n");
    assert_eq!(printed(Some("value"), pipe(), &record), "v\n");
    assert_eq!(printed(None, pipe(), &record), "v\n");
    let null = PrintOptions { null: "NULL".into(), ..pipe() };
    let empty = Record { key: Some("".into()), value: None, ..record };
    assert_eq!(printed(Some("[%k][%v]"), null, &empty), "[][NULL]");
}

#[test]
fn a_terminal_is_shown_what_would_move_its_cursor() {
    let record = Record { key: Some("\u{202e}k".into()), value: Some("a\x1b[2J\u{9b}b".into()), ..Record::default() };
    let screen = || PrintOptions { is_terminal: true, ..Default::default() };
    for format in [None, Some("%k %v\\n"), Some("value"), Some("json")] {
        let text = printed(format, screen(), &record);
        assert!(text.trim_end().chars().all(|c| !c.is_control() && c != '\u{202e}'), "{format:?}: {text:?}");
    }
    assert_eq!(printed(Some("%v"), PrintOptions::default(), &record), "a\x1b[2J\u{9b}b", "a pipe gets the bytes");
}

mod json {
    use super::*;

    fn read(text: &str) -> Result<ReadRecord, String> {
        format("json").read_one(Bytes::from(text.to_string()))
    }

    #[test]
    fn the_shape_is_frozen() {
        let header = |key: &str, value: Option<&'static [u8]>| (key.to_string(), value.map(Bytes::from_static));
        let record = Record {
            key: Some("k\n".into()),
            value: Some(Bytes::from_static(&[0xff, 0, 1])),
            headers: vec![header("h", None), header("h", Some(b"x")), header("b", Some(&[0xfe]))],
            timestamp: WallMs(5),
        };
        let want = concat!(
            r#"{"headers":[["h",null],["h","x"],{"key":"b","value_base64":"/g=="}],"key":"k\n","#,
            r#""offset":3,"partition":2,"timestamp":5,"topic":"t","value_base64":"/wAB"}"#,
            "\n"
        );
        assert_eq!(printed(Some("json"), PrintOptions::default(), &record), want);
        let got = read(want).expect("reads");
        assert_eq!((got.record, got.topic.as_deref(), got.partition), (record, Some("t"), Some(2)));
    }

    /// What is not text is kept as it was written.
    #[test]
    fn a_value_that_is_json_keeps_its_bytes() {
        for value in ["12345678901234567890123", "1.10", r#"{"b": 1.10,"a":[ 1e400 ],"a":"\ud800"}"#, "true", "[]"] {
            let got =
                read(&format!(r#"{{"key":{value}, "value" : {value} ,"headers":{{"h":{value}}}}}"#)).expect("reads");
            let want = Some(Bytes::from(value.to_string()));
            assert_eq!(got.record.value, want);
            assert_eq!(got.record.key, want);
            assert_eq!(got.record.headers, [("h".to_string(), want)]);
        }
        assert_eq!(read(r#"{"value":"a\u0041\n"}"#).expect("reads").record.value.as_deref(), Some(&b"aA\n"[..]));
        assert_eq!(read(r#"{"value":null}"#).expect("reads").record, Record::default());
        assert_eq!(read("{}").expect("reads").record, Record::default());
    }

    #[test]
    fn headers_in_every_shape() {
        let headers = |text: &str| read(&format!(r#"{{"headers":{text}}}"#)).map(|read| read.record.headers);
        let want = [("a", Some("1")), ("a", None), ("b", Some("{}"))];
        let want: Vec<_> = want.iter().map(|(k, v)| (k.to_string(), v.map(Bytes::from))).collect();
        assert_eq!(headers(r#"{"a":"1","a":null,"b":{}}"#), Ok(want.clone()));
        assert_eq!(headers(r#"[["a",1],["a",null],{"key":"b","value_base64":"e30"}]"#), Ok(want));
        for bad in
            [r#"[["a"]]"#, r#"[["a",1,2]]"#, "[1]", r#"[{"value":1}]"#, r#"[{"key":"a","value":1,"value_base64":""}]"#]
        {
            assert!(headers(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_makes_no_sense_or_two_is_refused_by_name() {
        for (text, named) in [
            ("[]", "not an object"),
            (r#"["t",0,0,0,"k",null,"v",null,null]"#, "not an object"),
            ("{", "EOF"),
            (r#"{"valeu":1}"#, "valeu"),
            (r#"{"value":1,"value":2}"#, "duplicate field `value`"),
            (r#"{"value":"a","value_base64":"YQ=="}"#, "value_base64"),
            (r#"{"partition":"x"}"#, "\"x\""),
            (r#"{"partition":-1}"#, "-1"),
            (r#"{"partition":2147483648}"#, "2147483648"),
            (r#"{"timestamp":-5}"#, "-5"),
            (r#"{"headers":1}"#, "headers"),
            (r#"{"key_base64":"*"}"#, "key_base64"),
            (r#"{"value":"\ud800"}"#, "ud800"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}

/// What a plain reading of the rule gives: the pieces between the ends, and what is left after the last.
fn pieces(input: &[u8], end: &[u8]) -> Vec<Vec<u8>> {
    let (mut all, mut piece) = (vec![], vec![]);
    for byte in input {
        piece.push(*byte);
        if piece.ends_with(end) {
            piece.truncate(piece.len() - end.len());
            all.push(std::mem::take(&mut piece));
        }
    }
    all.extend(Some(piece).filter(|piece| !piece.is_empty()));
    all
}

/// Draws from few different bytes, so that ends, separators and their halves meet in every way.
fn crowded() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        4 => prop::sample::select(&b"\n\r:-;x\0\"{} \\\xff"[..]),
        1 => any::<u8>(),
    ];
    prop::collection::vec(byte, 0..120)
}

fn any_format() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "json",
        "%v\\n",
        "%v--",
        "%v\\r\\n",
        "%v::;",
        "%k:%v\\n",
        "<%v>\\n",
        "%k--%v;;",
        "%p %v\\n",
        "%T:%v\\0",
        "%t-%k:%v\\n\\n",
    ])
}

proptest! {
    #[test]
    fn no_input_panics_and_every_record_comes_out(
        input in crowded(),
        of in any_format(),
        steps in prop::collection::vec(1usize..20, 1..5),
        keep_cr in any::<bool>(),
        null in prop::option::of(prop::sample::select(vec!["", "x"])),
    ) {
        let options = ReadOptions { keep_cr, null: null.map(String::from) };
        let of = ReadFormat::parse(of, options).expect("a format");
        let got = split_at(of.clone(), &input, &steps);
        let pieces = pieces(&input, of.end());
        let records = pieces.iter().filter(|piece| !of.is_blank(piece)).count();
        prop_assert_eq!(got.len(), records);
        prop_assert_eq!(got, split_at(of, &input, &[input.len().max(1)]), "wherever it is cut");
    }

    #[test]
    fn values_come_out_byte_by_byte(
        input in crowded(),
        end in prop::sample::select(vec!["\\n", "--", "\\r\\n", "::;", "\\0"]),
        steps in prop::collection::vec(1usize..20, 1..5),
    ) {
        let of = exact(&format!("%v{end}"));
        let got = split_at(of.clone(), &input, &steps).into_iter();
        let got: Vec<Vec<u8>> = got.map(|read| read.expect("a value").record.value.expect("some").to_vec()).collect();
        prop_assert_eq!(got, pieces(&input, of.end()));
    }

    #[test]
    fn json_keeps_every_byte_of_a_record(
        key in prop::option::of(crowded()),
        value in prop::option::of(crowded()),
        headers in prop::collection::vec((".{0,5}", prop::option::of(crowded())), 0..4),
        ms in 0i64..1 << 50,
    ) {
        let headers = headers.into_iter().map(|(key, value)| (key, value.map(Bytes::from))).collect();
        let record = Record { key: key.map(Bytes::from), value: value.map(Bytes::from), headers, timestamp: WallMs(ms) };
        let line = printed(Some("json"), PrintOptions::default(), &record);
        let got = split_at(format("json"), line.as_bytes(), &[7]);
        prop_assert_eq!(got.len(), 1);
        prop_assert_eq!(&got[0].as_ref().expect("reads").record, &record);
    }
}
