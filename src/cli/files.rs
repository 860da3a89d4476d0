//! Files that the command line keeps.

use std::{io, path::Path};

use super::exit::Failure;
use crate::durable;

/// Writes a file whole, or leaves the old one; durable when this returns.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let error = |error: io::Error| Failure::failed(format!("cannot write {}: {error}", path.display()));
    durable::write_whole(path, bytes).map_err(error)
}
