//! What strangers wrote (names, values, messages), made harmless for a terminal.
//!
//! Promises: nothing that went through here moves a cursor, changes a colour, forges a line or turns text around:
//! control characters, the marks of writing direction and the separators of lines are escaped, so that they are seen.
//! Everything else stays as it is, in every script.

use std::{borrow::Cow, fmt::Write as _, io::Write as _};

fn is_harmful(c: char) -> bool {
    match c {
        // Directional marks, embeddings, overrides and isolates; line and paragraph separators; what is never seen.
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => true,
        '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' => true,
        c => c.is_control(),
    }
}

fn replace(text: &str, is_meant: impl Fn(char) -> bool, put: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) || !text.chars().any(&is_meant) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_meant(c) { put(c, &mut safe) } else { safe.push(c) }
    }
    Cow::Owned(safe)
}

/// Escapes a text for one line: also its line feeds and tabs are escaped.
pub fn shown(text: &str) -> Cow<'_, str> {
    replace(text, is_harmful, |c, out| out.extend(c.escape_default()))
}

/// Escapes lines and columns that were laid out here: line feeds and tabs stay.
pub fn shown_lines(text: &str) -> Cow<'_, str> {
    replace(text, |c| is_harmful(c) && !matches!(c, '\n' | '\t'), |c, out| out.extend(c.escape_default()))
}

/// Escapes JSON, which means the same afterwards: such characters occur only within its strings.
pub fn shown_json(json: &str) -> Cow<'_, str> {
    replace(
        json,
        |c| is_harmful(c) && !matches!(c, '\n' | '\t'),
        |c, out| {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        },
    )
}

/// Escapes bytes of which nobody knows what they are: line feeds and tabs stay, what is no text becomes `\xHH`.
pub fn shown_bytes(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        shown.push_str(&shown_lines(chunk.valid()));
        for byte in chunk.invalid() {
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown
}

/// A line on stderr. Who closed it does not want to hear; what is said is harmless for a terminal.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", shown_lines(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_a_cursor_or_turns_text_around_is_escaped() {
        for (text, want) in [
            ("plain", "plain"),
            ("naïve 日本語 مرحبا 👩‍🚀", "naïve 日本語 مرحبا 👩‍🚀"),
            ("\x1b[2J", "\\u{1b}[2J"),
            ("a\nb\tc\r", "a\\nb\\tc\\r"),
            ("abc\u{202e}fed", "abc\\u{202e}fed"),
            ("\u{9b}31m\u{7f}\u{2066}", "\\u{9b}31m\\u{7f}\\u{2066}"),
        ] {
            assert_eq!(shown(text), want);
        }
        assert_eq!(shown_lines("a\n\tb\r"), "a\n\tb\\r");
        assert_eq!(shown_bytes(b"a\n\xff\x07"), "a\n\\xff\\u{7}");
    }

    #[test]
    fn json_means_the_same_afterwards() {
        let text = "\u{202e}\u{7f}\u{9b}\u{e0041}\u{1b}é";
        let json = serde_json::to_string(text).expect("text");
        let safe = shown_json(&json);
        assert!(safe.chars().all(|c| !is_harmful(c)), "{safe}");
        assert_eq!(serde_json::from_str::<String>(&safe).expect("JSON"), text);
    }
}
