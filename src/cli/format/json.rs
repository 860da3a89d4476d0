//! A record as a line of JSON: the shape that keeps every byte, and an interface.
//!
//! Promises: what [`print()`] writes, [`read`] gives back, byte by byte: null apart from empty, bytes that are no text
//! as base64, headers in their order. A value that is written as JSON other than text (`{"value":{"a":1.10}}`) is
//! those bytes of the input, untouched. What could be meant in two ways is refused.

use std::{borrow::Cow, fmt};

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value, json, value::RawValue};

use super::values::{ReadRecord, beginning, not_a_partition, not_a_timestamp, partition, timestamp};
use crate::{cli::terminal, client::ConsumedRecord, record::Record};

/// Base64 is written with padding, and read with and without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The fields of a line. Absent and null are the same.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    topic: Option<String>,
    partition: Option<i64>,
    /// Where it was read from means nothing where it goes.
    #[serde(rename = "offset")]
    _offset: Option<IgnoredAny>,
    timestamp: Option<i64>,
    #[serde(borrow)]
    key: Option<&'a RawValue>,
    key_base64: Option<String>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    value_base64: Option<String>,
    #[serde(borrow)]
    headers: Option<&'a RawValue>,
}

/// A header that says what is what; the others are `["key", "value"]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedHeader<'a> {
    key: String,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    value_base64: Option<String>,
}

pub fn read(line: &Bytes) -> Result<ReadRecord, String> {
    let shown = || beginning(line);
    // Derived code would take a list for the fields in their order.
    if line.trim_ascii_start().first() != Some(&b'{') {
        return Err(format!("{:?} is not an object: write {{\"key\":\"k\",\"value\":\"v\"}}", shown()));
    }
    let fields: Line = serde_json::from_slice(line).map_err(|error| format!("{:?}: {error}", shown()))?;
    let key = content(line, "key", fields.key, fields.key_base64.as_deref())?;
    let value = content(line, "value", fields.value, fields.value_base64.as_deref())?;
    let mut read = ReadRecord {
        record: Record { key, value, headers: headers(line, fields.headers)?, ..Record::default() },
        topic: fields.topic,
        partition: None,
        has_timestamp: fields.timestamp.is_some(),
    };
    if let Some(number) = fields.partition {
        read.partition = Some(partition(number).ok_or_else(|| not_a_partition(&number.to_string()))?);
    }
    if let Some(ms) = fields.timestamp {
        read.record.timestamp = timestamp(ms).ok_or_else(|| not_a_timestamp(&ms.to_string()))?;
    }
    Ok(read)
}

/// A key or value that may be given in one of two ways.
fn content(line: &Bytes, name: &str, plain: Option<&RawValue>, base64: Option<&str>) -> Result<Option<Bytes>, String> {
    match (plain, base64) {
        (Some(_), Some(_)) => Err(format!("both {name:?} and \"{name}_base64\" are given: which one counts?")),
        (None, Some(text)) => match BASE64.decode(text) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(error) => Err(format!("\"{name}_base64\" is not base64: {error}")),
        },
        (plain, None) => plain.map(|raw| raw_bytes(line, raw)).transpose(),
    }
}

/// Returns text as what it says, anything else as the bytes of the input.
fn raw_bytes(line: &Bytes, raw: &RawValue) -> Result<Bytes, String> {
    let raw = raw.get();
    if !raw.starts_with('"') {
        return Ok(line.slice_ref(raw.as_bytes()));
    }
    let text: Text = serde_json::from_str(raw).map_err(|error| format!("{:?}: {error}", beginning(raw.as_bytes())))?;
    Ok(match text.0 {
        Cow::Borrowed(text) => line.slice_ref(text.as_bytes()),
        Cow::Owned(text) => text.into(),
    })
}

/// A text that is borrowed where nothing in it is escaped.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn headers(line: &Bytes, raw: Option<&RawValue>) -> Result<Vec<(String, Option<Bytes>)>, String> {
    let Some(raw) = raw else { return Ok(Vec::new()) };
    let wrong = |error: serde_json::Error| format!("\"headers\": {error}");
    match raw.get().as_bytes() {
        [b'{', ..] => {
            let pairs: Pairs = serde_json::from_str(raw.get()).map_err(wrong)?;
            pairs.0.into_iter().map(|(key, value)| Ok((key, content(line, "value", value, None)?))).collect()
        }
        [b'[', ..] => {
            let list: Vec<&RawValue> = serde_json::from_str(raw.get()).map_err(wrong)?;
            list.into_iter().map(|raw| header(line, raw)).collect()
        }
        _ => Err("\"headers\" is neither an object nor a list".into()),
    }
}

fn header(line: &Bytes, raw: &RawValue) -> Result<(String, Option<Bytes>), String> {
    let wrong = |_| {
        let shown = beginning(raw.get().as_bytes());
        format!("{shown:?} is no header: write [\"key\",\"value\"] or {{\"key\":\"k\",\"value_base64\":\"dg==\"}}")
    };
    let named = if raw.get().starts_with('{') {
        serde_json::from_str(raw.get()).map_err(wrong)?
    } else {
        let (key, value): (String, Option<&RawValue>) = serde_json::from_str(raw.get()).map_err(wrong)?;
        NamedHeader { key, value, value_base64: None }
    };
    let value = content(line, "value", named.value, named.value_base64.as_deref())?;
    Ok((named.key, value))
}

/// An object's members in their order, with those that occur twice.
struct Pairs<'a>(Vec<(String, Option<&'a RawValue>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Pairs<'a>, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Vec<(String, Option<&'de RawValue>)>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }
        from.deserialize_map(Members).map(Pairs)
    }
}

/// Prints a record as one line of JSON.
pub fn print(out: &mut Vec<u8>, topic: &str, partition: i32, r: &ConsumedRecord) {
    let mut object = Map::new();
    object.insert("topic".into(), json!(topic));
    object.insert("partition".into(), json!(partition));
    object.insert("offset".into(), json!(r.offset));
    object.insert("timestamp".into(), json!(r.record.timestamp.0));
    for (name, bytes) in [("key", &r.record.key), ("value", &r.record.value)] {
        let (name, content) = member(name, bytes.as_ref());
        object.insert(name, content);
    }
    if !r.record.headers.is_empty() {
        let headers = r.record.headers.iter().map(|(key, value)| {
            let (name, content) = member("value", value.as_ref());
            if name == "value" { json!([key, content]) } else { json!({"key": key, name: content}) }
        });
        object.insert("headers".into(), Value::Array(headers.collect()));
    }
    // Escaped, what could move a terminal's cursor reads back as the same.
    out.extend_from_slice(terminal::shown_json(&Value::Object(object).to_string()).as_bytes());
    out.push(b'\n');
}

/// A key or value and the name of the member that holds it.
fn member(name: &str, bytes: Option<&Bytes>) -> (String, Value) {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => (name.into(), Value::Null),
        Some((_, Ok(text))) => (name.into(), json!(text)),
        Some((bytes, Err(_))) => (format!("{name}_base64"), json!(BASE64.encode(bytes))),
    }
}
