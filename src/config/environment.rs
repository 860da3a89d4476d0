//! Environment variables that look like settings and are none.

use std::ffi::OsString;

use super::args::KEYS;

const PREFIX: &str = "FLOTILLA_";

/// Variables of the command line, and of its tests.
const OTHERS: [&str; 3] = ["FLOTILLA_CONFIG", "FLOTILLA_BROKERS", "FLOTILLA_BIN"];
/// Read by builds that have bugs to plant. To all others it is unknown, and whoever set it hears so.
const PLANT: &str = if cfg!(feature = "seeded-bugs") { "FLOTILLA_PLANT" } else { "" };
/// Beginnings of variables of tests, and of container platforms, which tell where a service named flotilla is.
const FAMILIES: [&str; 3] = ["FLOTILLA_TEST_", "FLOTILLA_SERVICE_", "FLOTILLA_PORT"];

/// A sentence for each variable that begins like a setting and that nobody reads: most likely a slip of the pen.
pub fn unknown_variables(names: impl Iterator<Item = OsString>) -> Vec<String> {
    let mut unknown: Vec<String> = names
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| name.starts_with(PREFIX) && !FAMILIES.iter().any(|family| name.starts_with(family)))
        .filter(|name| name != PLANT && !OTHERS.contains(&name.as_str()) && !KEYS.iter().any(|(_, env)| env == name))
        .map(|name| format!("the environment variable {name} is no setting, and nobody reads it"))
        .collect();
    unknown.sort();
    unknown
}
