//! Patterns for topic names: compiled within a size, matched against whole names.

use regex::{Regex, RegexBuilder};

use crate::broker::groups::limits;

/// Compiles a member's pattern, or says what is wrong with it.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    // By itself first: "a)(b" is only valid inside the group that is put around it.
    build(pattern)?;
    // A group, so that an alternative does not lose the anchors.
    build(&format!("^(?:{pattern})$"))
}

fn build(pattern: &str) -> Result<Regex, String> {
    let limited = RegexBuilder::new(pattern)
        .size_limit(limits::PATTERN_COMPILED_BYTES_MAX)
        .dfa_size_limit(limits::PATTERN_COMPILED_BYTES_MAX)
        .build();
    limited.map_err(|error| match error {
        regex::Error::CompiledTooBig(bytes) => format!("the pattern needs more than {bytes} bytes when compiled"),
        // Its text is long and many-lined; the last line says what is wrong.
        other => other.to_string().lines().last().unwrap_or("no valid pattern").trim().to_string(),
    })
}

/// The names that match, in the order given.
pub fn matching<'a>(pattern: &Regex, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    names.filter(|name| pattern.is_match(name)).map(str::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_names_match() {
        let names = ["orders", "orders-eu", "my-orders", "payments"];
        let found = |pattern: &str| matching(&compile(pattern).unwrap(), names.into_iter());
        assert_eq!(found("orders"), ["orders"]);
        assert_eq!(found("orders.*"), ["orders", "orders-eu"]);
        assert_eq!(found("orders|pay.*"), ["orders", "payments"]);
        assert_eq!(found(".*"), names);
    }

    #[test]
    fn hostile_patterns_are_refused_in_words() {
        assert!(compile("(").unwrap_err().contains("unclosed group"), "{:?}", compile("("));
        assert!(compile("a)(b").is_err(), "it must not close our own group");
        let explosion = "((((a{100}){100}){100}){100})";
        assert!(compile(explosion).unwrap_err().contains("bytes when compiled"));
    }
}
