//! Printing formats.

use std::fmt::Write as _;

use super::{Field, Token, json, parse_tokens, without_field};
use crate::{cli::terminal, client::ConsumedRecord};

/// How a record is printed.
#[derive(Clone, Debug)]
pub struct PrintFormat {
    shape: Shape,
    options: PrintOptions,
}

/// What no format can say.
#[derive(Clone, Debug, Default)]
pub struct PrintOptions {
    /// Somebody looks at it: what could move the cursor or turn the text around is escaped.
    pub is_terminal: bool,
    /// What a null key or value is printed as in text formats.
    pub null: String,
}

#[derive(Clone, Debug)]
enum Shape {
    Json,
    /// A record is a readable line.
    Pretty,
    Text(Vec<Token>),
}

impl PrintFormat {
    /// Reads a format. Without one a record is a readable line on a terminal, and its value and a newline on a pipe.
    pub fn parse(format: Option<&str>, options: PrintOptions) -> Result<PrintFormat, String> {
        let shape = match format {
            None if options.is_terminal => Shape::Pretty,
            None | Some("value") => Shape::Text(vec![Token::Field(Field::Value), Token::Text(b"\n".to_vec())]),
            Some("json") => Shape::Json,
            Some(format) => Shape::Text(parse_text(format)?),
        };
        Ok(PrintFormat { shape, options })
    }

    pub fn print(&self, out: &mut Vec<u8>, topic: &str, partition: i32, r: &ConsumedRecord) {
        match &self.shape {
            Shape::Json => json::print(out, topic, partition, r),
            Shape::Pretty => print_pretty(out, topic, partition, r),
            Shape::Text(tokens) => {
                for token in tokens {
                    match token {
                        Token::Text(text) => out.extend_from_slice(text),
                        Token::Field(field) => self.print_field(out, *field, topic, partition, r),
                    }
                }
            }
        }
    }

    fn print_field(&self, out: &mut Vec<u8>, field: Field, topic: &str, partition: i32, r: &ConsumedRecord) {
        match field {
            Field::Topic => self.print_bytes(out, Some(topic.as_bytes())),
            Field::Partition => out.extend_from_slice(partition.to_string().as_bytes()),
            Field::Offset => out.extend_from_slice(r.offset.to_string().as_bytes()),
            Field::Key => self.print_bytes(out, r.record.key.as_deref()),
            Field::Value => self.print_bytes(out, r.record.value.as_deref()),
            Field::Timestamp => out.extend_from_slice(r.record.timestamp.to_string().as_bytes()),
            Field::Headers => {
                for (i, (key, value)) in r.record.headers.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    self.print_bytes(out, Some(key.as_bytes()));
                    out.push(b'=');
                    self.print_bytes(out, value.as_deref());
                }
            }
        }
    }

    fn print_bytes(&self, out: &mut Vec<u8>, bytes: Option<&[u8]>) {
        let bytes = bytes.unwrap_or(self.options.null.as_bytes());
        match self.options.is_terminal {
            true => out.extend_from_slice(terminal::shown_bytes(bytes).as_bytes()),
            false => out.extend_from_slice(bytes),
        }
    }
}

fn parse_text(format: &str) -> Result<Vec<Token>, String> {
    let tokens = parse_tokens(format)?;
    let has_field = tokens.iter().any(|token| matches!(token, Token::Field(_)));
    if has_field { Ok(tokens) } else { Err(without_field(format)) }
}

fn print_pretty(out: &mut Vec<u8>, topic: &str, partition: i32, r: &ConsumedRecord) {
    let time = jiff::Timestamp::from_millisecond(r.record.timestamp.0).map_or("?".into(), |t| t.to_string());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).escape_debug().to_string();
    let mut line = format!("{}-{partition} @{} {time} ", terminal::shown(topic), r.offset);
    if let Some(key) = &r.record.key {
        let _ = write!(line, "{} → ", text(key));
    }
    line.push_str(&r.record.value.as_ref().map_or("(null)".into(), |value| text(value)));
    line.push('\n');
    out.extend_from_slice(line.as_bytes());
}
