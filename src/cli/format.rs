//! Record formats: how `produce` cuts its input into records, and how `consume` prints them. Pure.
//!
//! A format is text with fields: `%t` topic, `%p` partition, `%o` offset, `%k` key, `%v` value,
//! `%T` timestamp (ms), `%h` headers (printing only), `%%` a percent sign; `\n \t \r \0 \\ \xHH`.
//! Reading: the text after the last field ends a record, so keys and values never run into the next
//! one; between them, each field ends where its following text first occurs.

use std::fmt::Write as _;

use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value, json};

use crate::{client::ConsumedRecord, record::Record, types::WallMs};

/// An input without an end of record within this is not what the format says.
const RECORD_BYTES_MAX: usize = 8 * 1024 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Topic,
    Partition,
    Offset,
    Key,
    Value,
    Timestamp,
    Headers,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Text(Vec<u8>),
    Field(Field),
}

fn parse_tokens(format: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut text = Vec::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        let field = match c {
            '%' => match chars.next() {
                Some('t') => Field::Topic,
                Some('p') => Field::Partition,
                Some('o') => Field::Offset,
                Some('k') => Field::Key,
                Some('v') => Field::Value,
                Some('T') => Field::Timestamp,
                Some('h') => Field::Headers,
                Some('%') => {
                    text.push(b'%');
                    continue;
                }
                Some(other) => return Err(format!("%{other} is no field: known are %t %p %o %k %v %T %h and %%")),
                None => return Err("the format ends with a lone %; write %% for a percent sign".into()),
            },
            '\\' => {
                text.push(escape(&mut chars)?);
                continue;
            }
            c => {
                text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
        };
        if !text.is_empty() {
            tokens.push(Token::Text(std::mem::take(&mut text)));
        }
        tokens.push(Token::Field(field));
    }
    if !text.is_empty() {
        tokens.push(Token::Text(text));
    }
    Ok(tokens)
}

fn escape(chars: &mut std::str::Chars) -> Result<u8, String> {
    Ok(match chars.next() {
        Some('n') => b'\n',
        Some('t') => b'\t',
        Some('r') => b'\r',
        Some('0') => 0,
        Some('\\') => b'\\',
        Some('x') => {
            let hex: String = chars.by_ref().take(2).collect();
            u8::from_str_radix(&hex, 16).map_err(|_| format!("\\x{hex} is no byte: write two hex digits"))?
        }
        Some(other) => return Err(format!("\\{other} is no escape: known are \\n \\t \\r \\0 \\\\ and \\xHH")),
        None => return Err("the format ends with a lone backslash; write \\\\ for one".into()),
    })
}

/// A record as it was read, with what its input said about where it goes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReadRecord {
    pub record: Record,
    pub topic: Option<String>,
    pub partition: Option<i32>,
    pub has_timestamp: bool,
}

/// How input becomes records.
#[derive(Clone, Debug, PartialEq)]
pub enum ReadFormat {
    /// One JSON object a line.
    Json,
    Text {
        lead: Vec<u8>,
        /// Each field and what separates it from the next.
        fields: Vec<(ReadField, Vec<u8>)>,
        end: Vec<u8>,
    },
}

/// A field that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadField {
    Topic,
    Partition,
    Key,
    Value,
    Timestamp,
}

impl ReadFormat {
    pub fn parse(format: &str) -> Result<ReadFormat, String> {
        if format == "json" {
            return Ok(ReadFormat::Json);
        }
        let mut lead = Vec::new();
        let mut fields: Vec<(ReadField, Vec<u8>)> = Vec::new();
        for token in parse_tokens(format)? {
            match (token, fields.last_mut()) {
                (Token::Text(text), None) => lead = text,
                (Token::Text(text), Some((_, after))) => *after = text,
                (Token::Field(field), last) => {
                    if last.is_some_and(|(_, after)| after.is_empty()) {
                        return Err(format!("{format:?}: two fields need some text between them"));
                    }
                    let field = match field {
                        Field::Topic => ReadField::Topic,
                        Field::Partition => ReadField::Partition,
                        Field::Key => ReadField::Key,
                        Field::Value => ReadField::Value,
                        Field::Timestamp => ReadField::Timestamp,
                        Field::Offset => return Err(format!("{format:?}: %o can be printed, not read")),
                        Field::Headers => return Err(format!("{format:?}: %h can be printed, not read: use -H")),
                    };
                    if fields.iter().any(|(f, _)| *f == field) {
                        return Err(format!("{format:?}: a field occurs twice"));
                    }
                    fields.push((field, Vec::new()));
                }
            }
        }
        let Some((_, end)) = fields.last_mut() else {
            return Err(format!("{format:?} has no field: write for example '%k:%v\\n'"));
        };
        let end = std::mem::take(end);
        if end.is_empty() {
            return Err(format!("{format:?} does not say where a record ends: add \\n"));
        }
        Ok(ReadFormat::Text { lead, fields, end })
    }

    fn end(&self) -> &[u8] {
        match self {
            ReadFormat::Json => b"\n",
            ReadFormat::Text { end, .. } => end,
        }
    }

    /// One record without its end.
    fn read_one(&self, line: Bytes) -> Result<ReadRecord, String> {
        match self {
            ReadFormat::Json => read_json(&line),
            ReadFormat::Text { lead, fields, .. } => read_text(lead, fields, line),
        }
    }
}

fn read_text(lead: &[u8], fields: &[(ReadField, Vec<u8>)], line: Bytes) -> Result<ReadRecord, String> {
    let shown = || String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned();
    if !line.starts_with(lead) {
        return Err(format!("{:?} does not begin with {:?}", shown(), String::from_utf8_lossy(lead)));
    }
    let mut rest = line.slice(lead.len()..);
    let mut read = ReadRecord::default();
    for (field, after) in fields {
        let value = if after.is_empty() {
            std::mem::take(&mut rest)
        } else {
            let at = find(&rest, after).ok_or_else(|| {
                format!("{:?} has no {:?} where the format wants one", shown(), String::from_utf8_lossy(after))
            })?;
            let value = rest.split_to(at);
            rest = rest.slice(after.len()..);
            value
        };
        let text = || String::from_utf8_lossy(&value).into_owned();
        match field {
            ReadField::Topic => read.topic = Some(text()),
            ReadField::Partition => {
                read.partition = Some(text().parse().map_err(|_| format!("{:?} is no partition", text()))?);
            }
            ReadField::Timestamp => {
                let ms = text().parse().map_err(|_| format!("{:?} is no timestamp (ms since 1970)", text()))?;
                (read.record.timestamp, read.has_timestamp) = (WallMs(ms), true);
            }
            ReadField::Key => read.record.key = Some(value),
            ReadField::Value => read.record.value = Some(value),
        }
    }
    Ok(read)
}

fn read_json(line: &[u8]) -> Result<ReadRecord, String> {
    let shown = String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned();
    let value: Value = serde_json::from_slice(line).map_err(|error| format!("{shown:?} is not JSON: {error}"))?;
    let Value::Object(object) = value else {
        return Err(format!("{shown:?} is not an object: write {{\"key\":\"k\",\"value\":\"v\"}}"));
    };
    const KNOWN: [&str; 9] =
        ["topic", "partition", "offset", "timestamp", "key", "value", "headers", "key_base64", "value_base64"];
    if let Some(unknown) = object.keys().find(|k| !KNOWN.contains(&k.as_str())) {
        return Err(format!("{shown:?}: {unknown:?} is no field of a record; known are {}", KNOWN.join(", ")));
    }
    let mut read = ReadRecord::default();
    read.record.key = json_bytes(&object, "key", "key_base64")?;
    read.record.value = json_bytes(&object, "value", "value_base64")?;
    if let Some(topic) = object.get("topic") {
        read.topic = Some(topic.as_str().ok_or("\"topic\" is not text")?.to_string());
    }
    if let Some(partition) = object.get("partition").filter(|v| !v.is_null()) {
        let partition = partition.as_i64().and_then(|p| i32::try_from(p).ok());
        read.partition = Some(partition.ok_or("\"partition\" is not a number")?);
    }
    if let Some(ms) = object.get("timestamp").filter(|v| !v.is_null()) {
        read.record.timestamp = WallMs(ms.as_i64().ok_or("\"timestamp\" is not a number (ms since 1970)")?);
        read.has_timestamp = true;
    }
    match object.get("headers") {
        None | Some(Value::Null) => {}
        Some(Value::Object(headers)) => {
            for (key, value) in headers {
                read.record.headers.push((key.clone(), value_bytes(value)));
            }
        }
        Some(Value::Array(headers)) => {
            for pair in headers {
                let key = pair.get(0).and_then(Value::as_str).ok_or("a header is not [\"key\",\"value\"]")?;
                read.record.headers.push((key.to_string(), pair.get(1).and_then(value_bytes)));
            }
        }
        Some(_) => return Err("\"headers\" is neither an object nor a list".into()),
    }
    Ok(read)
}

fn json_bytes(object: &Map<String, Value>, plain: &str, base64: &str) -> Result<Option<Bytes>, String> {
    match object.get(base64) {
        Some(Value::String(text)) => from_base64(text).map(Some).ok_or_else(|| format!("{base64:?} is not base64")),
        Some(_) => Err(format!("{base64:?} is not text")),
        None => Ok(object.get(plain).and_then(value_bytes)),
    }
}

/// Text as it is, null as null, anything else as its JSON.
fn value_bytes(value: &Value) -> Option<Bytes> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(Bytes::from(text.clone())),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => Some(Bytes::from(value.to_string())),
    }
}

/// Cuts a byte stream into records.
#[derive(Debug)]
pub struct Splitter {
    format: ReadFormat,
    buffer: BytesMut,
    /// Whole records, cut off the buffer.
    whole: Bytes,
    /// Bytes of `buffer` known to hold no end.
    searched: usize,
    count: u64,
}

impl Splitter {
    pub fn new(format: ReadFormat) -> Splitter {
        Splitter { format, buffer: BytesMut::new(), whole: Bytes::new(), searched: 0, count: 0 }
    }

    /// Where to read input into. Call only when `next_record` returned `None`.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next whole record, or `None` until more input is there.
    pub fn next_record(&mut self) -> Option<Result<ReadRecord, String>> {
        let end = self.format.end();
        if self.whole.is_empty() {
            let from = self.searched.saturating_sub(end.len() - 1);
            // One byte cannot overlap itself, so all records up to the last one come off at once;
            // longer ends are looked for from the front, one at a time.
            let found =
                if end.len() == 1 { rfind_byte(&self.buffer[from..], end[0]) } else { find(&self.buffer[from..], end) };
            match found {
                Some(at) => {
                    self.whole = self.buffer.split_to(from + at + end.len()).freeze();
                    self.searched = 0;
                }
                None => {
                    self.searched = self.buffer.len();
                    let is_endless = self.buffer.len() > RECORD_BYTES_MAX;
                    return is_endless.then(|| Err(self.complain("no end of record within 8 MiB".into())));
                }
            }
        }
        let end = self.format.end();
        let at = find(&self.whole, end).expect("whole records end with it");
        let line = self.whole.split_to(at);
        self.whole = self.whole.slice(end.len()..);
        Some(self.read(line))
    }

    /// What is left when the input ends: a last record without its end, if anything.
    pub fn finish(&mut self) -> Option<Result<ReadRecord, String>> {
        let rest = self.buffer.split().freeze();
        if rest.is_empty() { None } else { Some(self.read(rest)) }
    }

    fn read(&mut self, line: Bytes) -> Result<ReadRecord, String> {
        self.count += 1;
        self.format.read_one(line).map_err(|error| self.complain(error))
    }

    fn complain(&self, error: String) -> String {
        format!("record {} of the input: {error}", self.count)
    }
}

/// The first place of `needle`, which is not empty.
fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    match needle {
        [byte] => haystack.iter().position(|b| b == byte),
        _ => haystack.windows(needle.len()).position(|w| w == needle),
    }
}

fn rfind_byte(haystack: &[u8], byte: u8) -> Option<usize> {
    haystack.iter().rposition(|b| *b == byte)
}

/// How a record is printed.
#[derive(Clone, Debug)]
pub enum PrintFormat {
    Json,
    /// Value and newline.
    Value,
    /// A readable line.
    Pretty,
    Text(Vec<PrintToken>),
}

/// A piece of a printing format.
#[derive(Clone, Debug)]
pub struct PrintToken(Token);

impl PrintFormat {
    pub fn parse(format: &str) -> Result<PrintFormat, String> {
        match format {
            "json" => Ok(PrintFormat::Json),
            "value" => Ok(PrintFormat::Value),
            _ => Ok(PrintFormat::Text(parse_tokens(format)?.into_iter().map(PrintToken).collect())),
        }
    }

    pub fn print(&self, out: &mut Vec<u8>, topic: &str, partition: i32, r: &ConsumedRecord) {
        match self {
            PrintFormat::Json => print_record_json(out, topic, partition, r),
            PrintFormat::Value => {
                out.extend_from_slice(r.record.value.as_deref().unwrap_or_default());
                out.push(b'\n');
            }
            PrintFormat::Pretty => print_pretty(out, topic, partition, r),
            PrintFormat::Text(tokens) => {
                for PrintToken(token) in tokens {
                    match token {
                        Token::Text(text) => out.extend_from_slice(text),
                        Token::Field(field) => print_field(out, *field, topic, partition, r),
                    }
                }
            }
        }
    }
}

fn print_field(out: &mut Vec<u8>, field: Field, topic: &str, partition: i32, r: &ConsumedRecord) {
    match field {
        Field::Topic => out.extend_from_slice(topic.as_bytes()),
        Field::Partition => out.extend_from_slice(partition.to_string().as_bytes()),
        Field::Offset => out.extend_from_slice(r.offset.to_string().as_bytes()),
        Field::Key => out.extend_from_slice(r.record.key.as_deref().unwrap_or_default()),
        Field::Value => out.extend_from_slice(r.record.value.as_deref().unwrap_or_default()),
        Field::Timestamp => out.extend_from_slice(r.record.timestamp.to_string().as_bytes()),
        Field::Headers => {
            for (i, (key, value)) in r.record.headers.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(key.as_bytes());
                out.push(b'=');
                out.extend_from_slice(value.as_deref().unwrap_or_default());
            }
        }
    }
}

fn print_pretty(out: &mut Vec<u8>, topic: &str, partition: i32, r: &ConsumedRecord) {
    let time = jiff::Timestamp::from_millisecond(r.record.timestamp.0).map_or("?".into(), |t| t.to_string());
    let text = |bytes: &Option<Bytes>| bytes.as_ref().map(|b| String::from_utf8_lossy(b).escape_debug().to_string());
    let mut line = format!("{topic}-{partition} @{} {time} ", r.offset);
    if let Some(key) = text(&r.record.key) {
        let _ = write!(line, "{key} → ");
    }
    line.push_str(&text(&r.record.value).unwrap_or("(null)".into()));
    line.push('\n');
    out.extend_from_slice(line.as_bytes());
}

fn print_record_json(out: &mut Vec<u8>, topic: &str, partition: i32, r: &ConsumedRecord) {
    let mut object = Map::new();
    object.insert("topic".into(), json!(topic));
    object.insert("partition".into(), json!(partition));
    object.insert("offset".into(), json!(r.offset));
    object.insert("timestamp".into(), json!(r.record.timestamp.0));
    for (name, bytes) in [("key", &r.record.key), ("value", &r.record.value)] {
        match bytes.as_ref().map(|b| (b, std::str::from_utf8(b))) {
            None => drop(object.insert(name.into(), Value::Null)),
            Some((_, Ok(text))) => drop(object.insert(name.into(), json!(text))),
            Some((bytes, Err(_))) => drop(object.insert(format!("{name}_base64"), json!(to_base64(bytes)))),
        }
    }
    if !r.record.headers.is_empty() {
        let text = |v: &Option<Bytes>| v.as_ref().map(|b| String::from_utf8_lossy(b).into_owned());
        let headers: Vec<Value> = r.record.headers.iter().map(|(k, v)| json!([k, text(v)])).collect();
        object.insert("headers".into(), Value::Array(headers));
    }
    out.extend_from_slice(Value::Object(object).to_string().as_bytes());
    out.push(b'\n');
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, b| word << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let is_padding = i > chunk.len();
            text.push(if is_padding { '=' } else { char::from(BASE64[(word >> (18 - 6 * i)) as usize & 63]) });
        }
    }
    text
}

fn from_base64(text: &str) -> Option<Bytes> {
    let digits = text.trim_end_matches('=').as_bytes();
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    for chunk in digits.chunks(4) {
        if chunk.len() == 1 {
            return None;
        }
        let mut word = 0u32;
        for digit in chunk {
            word = word << 6 | BASE64.iter().position(|b| b == digit)? as u32;
        }
        word <<= 6 * (4 - chunk.len());
        bytes.extend_from_slice(&word.to_be_bytes()[1..chunk.len()]);
    }
    Some(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Split = Result<(Option<String>, Option<String>), String>;

    fn split(format: &str, input: &[u8], step: usize) -> Vec<Split> {
        let mut splitter = Splitter::new(ReadFormat::parse(format).expect("format"));
        let text = |b: Option<Bytes>| b.map(|b| String::from_utf8_lossy(&b).into_owned());
        let mut got = vec![];
        for chunk in input.chunks(step) {
            splitter.buffer().extend_from_slice(chunk);
            while let Some(read) = splitter.next_record() {
                got.push(read.map(|r| (text(r.record.key), text(r.record.value))));
            }
        }
        got.extend(splitter.finish().map(|read| read.map(|r| (text(r.record.key), text(r.record.value)))));
        got
    }

    fn pair(key: &str, value: &str) -> Result<(Option<String>, Option<String>), String> {
        Ok((Some(key.into()), Some(value.into())))
    }

    #[test]
    fn records_are_cut_wherever_reads_end() {
        for step in 1..12 {
            assert_eq!(split("%k:%v\\n", b"a:1\nb:2:3\n\nc:", step)[..2], [pair("a", "1"), pair("b", "2:3")]);
            assert_eq!(
                split("%v--", b"x-y--z----w", step),
                ["x-y", "z", "", "w"].map(|v| Ok((None, Some(v.to_string()))))
            );
        }
        assert_eq!(split("%v\\n", b"", 1), []);
    }

    #[test]
    fn a_record_never_borrows_its_separator_from_the_next() {
        let got = split("%k:%v\\n", b"nokey\nb:2\n", 100);
        let error = got[0].clone().expect_err("no colon");
        assert!(error.contains("record 1") && error.contains("nokey") && error.contains(':'), "{error}");
        assert_eq!(got[1], pair("b", "2"));
    }

    #[test]
    fn all_readable_fields() {
        let format = ReadFormat::parse("<%t %p %T %k=%v;\\x0a").expect("format");
        let read = format.read_one(Bytes::from_static(b"<orders 3 1700 k=v=w")).expect("reads");
        assert_eq!((read.topic.as_deref(), read.partition, read.has_timestamp), (Some("orders"), Some(3), true));
        assert_eq!(read.record.timestamp, WallMs(1700));
        assert_eq!(read.record.value.as_deref(), Some(&b"v=w"[..]));
        assert_eq!(format.end(), b";\n");
    }

    #[test]
    fn bad_formats_are_explained() {
        for format in ["%k%v\\n", "%v", "abc", "%q\\n", "%", "\\", "\\q", "\\xzz", "%o\\n", "%v %v\\n", ""] {
            assert!(ReadFormat::parse(format).is_err(), "{format}");
        }
    }

    #[test]
    fn json_round_trip() {
        let r = ConsumedRecord {
            offset: 7,
            record: Record {
                key: Some(Bytes::from_static(b"k\n")),
                value: Some(Bytes::from_static(&[0xff, 0, 1])),
                headers: vec![("h".into(), None), ("h".into(), Some(Bytes::from_static(b"x")))],
                timestamp: WallMs(5),
            },
        };
        let mut out = vec![];
        PrintFormat::Json.print(&mut out, "t", 1, &r);
        let text = String::from_utf8(out).expect("text");
        assert!(text.contains(r#""value_base64":"/wAB""#) && text.ends_with("}\n"), "{text}");
        let read = ReadFormat::Json.read_one(Bytes::from(text.trim_end().to_string())).expect("reads");
        assert_eq!(read.record, r.record);
        assert_eq!((read.topic.as_deref(), read.partition), (Some("t"), Some(1)));
    }

    #[test]
    fn json_oddities() {
        let read = |text: &'static str| ReadFormat::Json.read_one(Bytes::from_static(text.as_bytes()));
        let value = read(r#"{"value":{"a":1}}"#).expect("reads").record.value;
        assert_eq!(value.as_deref(), Some(&br#"{"a":1}"#[..]));
        assert_eq!(read("{}").expect("reads").record, Record::default());
        for text in
            ["", "[]", "{", r#"{"valeu":1}"#, r#"{"partition":"x"}"#, r#"{"headers":1}"#, r#"{"key_base64":"*"}"#]
        {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn printing() {
        let record = Record { key: None, value: Some(Bytes::from_static(b"v")), headers: vec![], timestamp: WallMs(9) };
        let r = ConsumedRecord { offset: 3, record };
        let print = |format: &str| {
            let mut out = vec![];
            PrintFormat::parse(format).expect("format").print(&mut out, "t", 2, &r);
            String::from_utf8(out).expect("text")
        };
        assert_eq!(print("%t %p %o %k %v %T%%\\n"), "t 2 3  v 9%\n");
        assert_eq!(print("value"), "v\n");
    }

    #[test]
    fn base64_vectors() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(to_base64(bytes.as_bytes()), text);
            assert_eq!(from_base64(text).as_deref(), Some(bytes.as_bytes()));
        }
        assert_eq!(from_base64("A"), None);
    }
}
