//! Flags, environment variables and the file, merged key by key.

use super::{ConfigError, Loaded};

/// Flags of `flotilla server`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ServerArgs {}

impl ServerArgs {
    /// Reads the file, if one is named, fills in defaults and validates.
    pub fn load(self) -> Result<Loaded, ConfigError> {
        todo!()
    }
}
