//! Reading formats: what one record's bytes say.
//!
//! The text after the last field ends a record, so keys and values never run into the next one; between them,
//! each field ends where its following text first occurs.

use bytes::Bytes;

use super::{
    Field, Token, json, parse_tokens,
    values::{ReadRecord, beginning, not_a_partition, not_a_timestamp, partition, timestamp},
    without_field,
};

/// What no format can say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReadOptions {
    /// A carriage return before the line feed that ends a record belongs to the record.
    pub keep_cr: bool,
    /// In text formats a key or value of exactly these bytes is null.
    pub null: Option<String>,
}

/// How input becomes records.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadFormat {
    shape: Shape,
    options: ReadOptions,
}

#[derive(Clone, Debug, PartialEq)]
enum Shape {
    /// Each line is a JSON object; blank lines may stand between them.
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
enum ReadField {
    Topic,
    Partition,
    Key,
    Value,
    Timestamp,
}

impl ReadFormat {
    pub fn parse(format: &str, options: ReadOptions) -> Result<ReadFormat, String> {
        let shape = if format == "json" { Shape::Json } else { parse_text(format)? };
        Ok(ReadFormat { shape, options })
    }

    /// Returns what ends a record. It is never empty.
    pub fn end(&self) -> &[u8] {
        match &self.shape {
            Shape::Json => b"\n",
            Shape::Text { end, .. } => end,
        }
    }

    /// Whether these bytes between two ends are no record at all: a blank line of JSON.
    pub fn is_blank(&self, line: &[u8]) -> bool {
        self.shape == Shape::Json && line.trim_ascii().is_empty()
    }

    /// A record's bytes without what else belongs to its end. `is_ended`: its end was there.
    pub fn trim(&self, line: Bytes, is_ended: bool) -> Bytes {
        let is_line = is_ended && self.end() == b"\n" && !self.options.keep_cr;
        match line.last() {
            Some(b'\r') if is_line => line.slice(..line.len() - 1),
            Some(_) | None => line,
        }
    }

    /// Reads one record without its end.
    pub fn read_one(&self, line: Bytes) -> Result<ReadRecord, String> {
        match &self.shape {
            Shape::Json => json::read(&line),
            Shape::Text { lead, fields, .. } => {
                let mut read = read_text(lead, fields, line)?;
                if let Some(null) = &self.options.null {
                    for bytes in [&mut read.record.key, &mut read.record.value] {
                        if bytes.as_deref() == Some(null.as_bytes()) {
                            *bytes = None;
                        }
                    }
                }
                Ok(read)
            }
        }
    }
}

fn parse_text(format: &str) -> Result<Shape, String> {
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
    let Some((_, end)) = fields.last_mut() else { return Err(without_field(format)) };
    let end = std::mem::take(end);
    if end.is_empty() {
        return Err(format!("{format:?} does not say where a record ends: add \\n"));
    }
    Ok(Shape::Text { lead, fields, end })
}

fn read_text(lead: &[u8], fields: &[(ReadField, Vec<u8>)], line: Bytes) -> Result<ReadRecord, String> {
    let shown = || beginning(&line);
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
                let partition = text().parse().ok().and_then(partition);
                read.partition = Some(partition.ok_or_else(|| not_a_partition(&beginning(&value)))?);
            }
            ReadField::Timestamp => {
                let ms = text().parse().ok().and_then(timestamp);
                read.record.timestamp = ms.ok_or_else(|| not_a_timestamp(&beginning(&value)))?;
                read.has_timestamp = true;
            }
            ReadField::Key => read.record.key = Some(value),
            ReadField::Value => read.record.value = Some(value),
        }
    }
    Ok(read)
}

/// The first place of `needle`, which is not empty.
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    match needle {
        [byte] => haystack.iter().position(|b| b == byte),
        _ => haystack.windows(needle.len()).position(|w| w == needle),
    }
}
