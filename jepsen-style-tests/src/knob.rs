//! Sizes of the runs: CI's by default, longer ones by environment variable (`scripts/nightly`).

use std::{env, str::FromStr};

/// `FLOTILLA_TEST_<name>`, or the default. A value that does not parse stops the run: a typo must
/// not quietly give the short one.
pub fn knob<T: FromStr>(name: &str, default: T) -> T {
    let name = format!("FLOTILLA_TEST_{name}");
    match env::var(&name) {
        Err(_) => default,
        Ok(value) => value.parse().unwrap_or_else(|_| panic!("{name}={value} is not a number of the kind expected")),
    }
}
