//! Record formats: how `produce` cuts its input into records, and how `consume` prints them. Pure.
//!
//! A format is text with fields: `%t` topic, `%p` partition, `%o` offset, `%k` key, `%v` value,
//! `%T` timestamp (ms), `%h` headers (printing only), `%%` a percent sign; `\n \t \r \0 \\ \xHH`.
//! [`json`] is the format that keeps every byte of a record. Leaves out: where the bytes come from and go to.

#[cfg(test)]
mod fuzz;
mod json;
mod print;
mod read;
mod split;
#[cfg(test)]
mod tests;
mod values;

pub use self::{
    print::{PrintFormat, PrintOptions},
    read::{ReadFormat, ReadOptions},
    split::Splitter,
    values::ReadRecord,
};

/// A part of a record that a format can name.
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

/// A piece of a format.
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
            let is_hex = hex.len() == 2 && hex.bytes().all(|digit| digit.is_ascii_hexdigit());
            let byte = u8::from_str_radix(&hex, 16).ok().filter(|_| is_hex);
            byte.ok_or_else(|| format!("\\x{hex} is no byte: write two hex digits"))?
        }
        Some(other) => return Err(format!("\\{other} is no escape: known are \\n \\t \\r \\0 \\\\ and \\xHH")),
        None => return Err("the format ends with a lone backslash; write \\\\ for one".into()),
    })
}

/// What a format without any field may have been meant as.
fn without_field(format: &str) -> String {
    let named = ["json", "value"].into_iter().find(|name| super::guess::is_close(format, name));
    let guess = named.map_or(String::new(), |name| format!(" (did you mean {name:?}?)"));
    format!("{format:?} has no field{guess}: write for example '%k:%v\\n'")
}
