//! The table of limits (`src/limits.md`) against the constants that it names: the numbers of a row, in order, are the
//! values of the constants in its last column, in order.
//!
//! Constants are read as text, since most are private, and computed with the little arithmetic that they use.

use std::{collections::BTreeMap, iter::Peekable, str::Chars};

use super::source::{blank_prose, is_word};

/// What a number in the table or a constant comes to. Durations are in milliseconds, sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    Plain(f64),
    Time(f64),
}

impl Value {
    fn number(self) -> f64 {
        match self {
            Value::Plain(number) | Value::Time(number) => number,
        }
    }
}

/// Module path of the file, `raft::link`, and the name, to the constant's expression.
pub type Constants = BTreeMap<(String, String), String>;

pub fn constants(files: &[(String, String)]) -> Constants {
    let mut found = Constants::new();
    for (path, text) in files {
        let Some(module) = path.strip_prefix("src/").and_then(|path| path.strip_suffix(".rs")) else { continue };
        let module = module.trim_end_matches("/mod").replace('/', "::");
        let code = blank_prose(text);
        for (at, _) in code.match_indices("const ") {
            let Some((head, rest)) = code[at + 6..].split_once('=') else { continue };
            let (name, expression) = (head.split(':').next().unwrap_or_default().trim(), rest.split(';').next());
            if name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_') {
                found
                    .entry((module.clone(), name.into()))
                    .or_insert_with(|| expression.unwrap_or_default().trim().into());
            }
        }
    }
    found
}

/// What is wrong with a table: a row each.
pub fn check(table: &str, constants: &Constants) -> Vec<String> {
    table.lines().filter(|line| line.starts_with("| ")).filter_map(|row| check_row(row, constants).err()).collect()
}

/// How many constants a table names.
pub fn named(table: &str) -> usize {
    table.lines().filter(|line| line.starts_with("| ")).filter_map(columns).map(|(_, names)| names.len()).sum()
}

/// The text that has numbers, and the names of constants. None: a row of another table.
fn columns(row: &str) -> Option<(String, Vec<String>)> {
    let columns: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
    let [what, limit, then, names] = columns[..] else { return None };
    // What stands in backticks is a name or a code of a protocol, not a limit.
    let outside = |text: &str| text.split('`').step_by(2).collect::<Vec<_>>().join(" ");
    let paths = names.split('`').skip(1).step_by(2).flat_map(spelled_out).collect();
    Some(([what, limit, then].map(outside).join(" | "), paths))
}

/// `a::{B, C}` is `a::B` and `a::C`.
fn spelled_out(path: &str) -> Vec<String> {
    match path.split_once('{') {
        None => vec![path.into()],
        Some((module, names)) => {
            names.trim_end_matches('}').split(',').map(|name| format!("{module}{}", name.trim())).collect()
        }
    }
}

fn check_row(row: &str, constants: &Constants) -> Result<(), String> {
    let Some((text, names)) = columns(row) else { return Ok(()) };
    let numbers = numbers(&text);
    if numbers.len() != names.len() {
        let read: Vec<&str> = numbers.iter().map(|(text, _)| text.as_str()).collect();
        return Err(format!("{row}\n    has the numbers {read:?}, and {} constants", names.len()));
    }
    for ((text, number), name) in numbers.iter().zip(&names) {
        let (module, constant) = name.rsplit_once("::").unwrap_or(("", name));
        let key = (module.to_string(), constant.to_string());
        let expression = constants.get(&key).ok_or_else(|| format!("{row}\n    there is no constant {name}"))?;
        let value = evaluate(expression, module, constants, 0)
            .ok_or_else(|| format!("{row}\n    {name} = {expression} is beyond this test's arithmetic"))?;
        let is_time = |value| matches!(value, Value::Time(_));
        let kinds_agree = is_time(*number) == (is_time(value) || constant.contains("_MS"));
        if !kinds_agree || number.number() != value.number() {
            return Err(format!("{row}\n    says {text}, but {name} = {expression}"));
        }
    }
    Ok(())
}

/// Every number of a text with its unit, and what it comes to. `1/8` is 8: one part in so many.
fn numbers(text: &str) -> Vec<(String, Value)> {
    let mut found = vec![];
    let mut words = text.split([' ', ';', '(', ')']).filter(|word| !word.is_empty()).peekable();
    while let Some(word) = words.next() {
        let digits = word.trim_end_matches(',').replace(',', "");
        let Some(number) = number(&digits) else { continue };
        let unit = words.peek().map(|word| word.trim_end_matches(',')).unwrap_or_default();
        let value = match unit {
            "KiB" => Value::Plain(number * 1024.0),
            "MiB" => Value::Plain(number * 1024.0 * 1024.0),
            "ms" => Value::Time(number),
            "s" => Value::Time(number * 1_000.0),
            "min" => Value::Time(number * 60_000.0),
            "h" => Value::Time(number * 3_600_000.0),
            _ => Value::Plain(number),
        };
        found.push((format!("{digits} {unit}"), value));
    }
    found
}

fn number(digits: &str) -> Option<f64> {
    if let Some((base, power)) = digits.split_once('^') {
        return Some(number(base)?.powf(number(power)?));
    }
    match digits.strip_prefix("1/") {
        Some(parts) => parts.parse().ok(),
        None => digits.parse().ok(),
    }
}

/// Constants refer to one another no deeper.
const DEPTH_MAX: usize = 4;

fn evaluate(expression: &str, module: &str, constants: &Constants, depth: usize) -> Option<Value> {
    let mut reader = Reader { chars: expression.chars().peekable(), module, constants, depth };
    let value = reader.shift()?;
    reader.skip_space();
    (depth <= DEPTH_MAX && reader.chars.next().is_none()).then_some(value)
}

/// Reads an expression by Rust's precedence: `*` and `/` before `+` and `-`, those before `<<`.
struct Reader<'a> {
    chars: Peekable<Chars<'a>>,
    module: &'a str,
    constants: &'a Constants,
    depth: usize,
}

impl Reader<'_> {
    fn skip_space(&mut self) {
        while self.chars.next_if(|c| c.is_whitespace()).is_some() {}
    }

    fn next_if(&mut self, wanted: char) -> bool {
        self.skip_space();
        self.chars.next_if_eq(&wanted).is_some()
    }

    fn word(&mut self) -> String {
        self.skip_space();
        let mut word = String::new();
        while let Some(c) = self.chars.next_if(|c| is_word(*c) || *c == ':') {
            word.push(c);
        }
        word
    }

    fn shift(&mut self) -> Option<Value> {
        let mut value = self.sum()?;
        while self.next_if('<') {
            self.next_if('<').then_some(())?;
            value = Value::Plain(value.number() * self.sum()?.number().exp2());
        }
        Some(value)
    }

    fn sum(&mut self) -> Option<Value> {
        let mut value = self.product()?;
        loop {
            if self.next_if('+') {
                value = both(value, self.product()?, |a, b| a + b);
            } else if self.next_if('-') {
                value = both(value, self.product()?, |a, b| a - b);
            } else {
                return Some(value);
            }
        }
    }

    fn product(&mut self) -> Option<Value> {
        let mut value = self.atom()?;
        loop {
            if self.next_if('*') {
                value = both(value, self.atom()?, |a, b| a * b);
            } else if self.next_if('/') {
                value = both(value, self.atom()?, |a, b| a / b);
            } else {
                return Some(value);
            }
        }
    }

    fn atom(&mut self) -> Option<Value> {
        let value = if self.next_if('(') {
            let value = self.shift()?;
            self.next_if(')').then_some(value)?
        } else {
            let word = self.word();
            if word.starts_with(|c: char| c.is_ascii_digit()) {
                Value::Plain(word.replace('_', "").parse().ok()?)
            } else if self.next_if('(') {
                let argument = self.shift()?;
                self.next_if(')').then_some(())?;
                call(&word, argument)?
            } else {
                self.constant(&word)?
            }
        };
        // `as usize` changes no value here.
        let rest = self.chars.clone();
        if self.word() == "as" {
            self.word();
        } else {
            self.chars = rest;
        }
        Some(value)
    }

    /// By its last name: of this file, or of the only one that has it where the path leads.
    fn constant(&self, path: &str) -> Option<Value> {
        let (place, name) = path.rsplit_once("::").unwrap_or(("", path));
        let own = (self.module.to_string(), name.to_string());
        let place = place.trim_start_matches("crate").trim_start_matches("super").trim_start_matches("::");
        let mut elsewhere = self.constants.keys().filter(|(module, other)| other == name && module.starts_with(place));
        let key = if self.constants.contains_key(&own) && place.is_empty() { &own } else { elsewhere.next()? };
        evaluate(&self.constants[key], &key.0, self.constants, self.depth + 1)
    }
}

fn both(a: Value, b: Value, compute: impl Fn(f64, f64) -> f64) -> Value {
    let number = compute(a.number(), b.number());
    if matches!((a, b), (Value::Plain(_), Value::Plain(_))) { Value::Plain(number) } else { Value::Time(number) }
}

fn call(function: &str, argument: Value) -> Option<Value> {
    let number = argument.number();
    Some(match function {
        "Duration::from_secs" => Value::Time(number * 1_000.0),
        "Duration::from_millis" => Value::Time(number),
        "ByteSize::mib" => Value::Plain(number * 1024.0 * 1024.0),
        // The watchdog counts a time in looks; the table says the time.
        "looks" => argument,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planted(source: &str) -> Constants {
        constants(&[
            ("src/a/b.rs".into(), source.into()),
            ("src/c/mod.rs".into(), "const KIB: usize = 1 << 10;".into()),
        ])
    }

    #[test]
    fn a_row_that_differs_from_its_constant_is_found() {
        let constants = planted(
            "pub const BYTES_MAX: usize = 2 * (1 << 20) / 2;\nconst WITHIN: Duration = Duration::from_secs(60 * 5);\n\
             const AGAIN_MS: u64 = 20 as u64;\nconst SMALL: usize = 64 * c::KIB;\n// const WITHIN: u8 = 3;\n",
        );
        let row = |limit: &str, names: &str| check(&format!("| what | {limit} | then |  {names} |"), &constants);
        let right = row("1 MiB, or one; 5 min (`n_max`); 20 ms | 64 KiB", "");
        assert!(right.is_empty(), "five columns are another table: {right:?}");
        let right =
            row("1 MiB, or 64 KiB; 5 min (`n_5`); 20 ms", "`a::b::{BYTES_MAX, SMALL}`, `a::b::{WITHIN, AGAIN_MS}`");
        assert_eq!(right, Vec::<String>::new());
        for (limit, names, says) in [
            ("2 MiB", "`a::b::BYTES_MAX`", "says 2 MiB, but a::b::BYTES_MAX = 2 * (1 << 20) / 2"),
            ("5 s", "`a::b::WITHIN`", "says 5 s"),
            ("20", "`a::b::AGAIN_MS`", "says 20"),
            ("1 MiB", "`a::b::GONE`", "no constant a::b::GONE"),
            ("1 MiB; 20 ms", "`a::b::BYTES_MAX`", "and 1 constants"),
            ("no number", "`a::b::BYTES_MAX`", "and 1 constants"),
        ] {
            let found = row(limit, names);
            assert!(found.len() == 1 && found[0].contains(says), "{limit}: {found:?}");
        }
    }
}
