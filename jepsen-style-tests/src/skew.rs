//! The wall clock of a broker, as a test sets it (`clock_file`): ahead, behind, jumping, standing still.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

pub struct Skew(PathBuf);

impl Skew {
    /// As it is everywhere, for now. Its file lies in `dir`.
    pub fn new(dir: &Path) -> Skew {
        let skew = Skew(dir.join("clock"));
        skew.set("0");
        skew
    }

    /// This server has the clock from now on.
    pub fn give(&self, command: &mut Command) {
        command.env("FLOTILLA_CLOCK_FILE", &self.0);
    }

    pub fn ahead(&self, by: Duration) {
        self.set(&by.as_millis().to_string());
    }

    pub fn behind(&self, by: Duration) {
        self.set(&format!("-{}", by.as_millis()));
    }

    pub fn stop(&self) {
        self.set("stopped");
    }

    fn set(&self, text: &str) {
        // Whole or not at all: the server may read it at any moment.
        let new = self.0.with_extension("new");
        let written = fs::write(&new, text).and_then(|()| fs::rename(&new, &self.0));
        written.expect("the test's own directory is writable");
    }
}
