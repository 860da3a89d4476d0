//! Dropping what the kernel caches of a directory, without root: what is clean of a file is dropped for whoever may
//! read it (posix_fadvise). Whether it was, `read B/B` of the table tells: what comes from memory reads nothing.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use rustix::fs::{Advice, fadvise};

/// Writes out and drops all files below.
pub fn drop_caches(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            drop_caches(&entry.path())?;
            continue;
        }
        match File::open(entry.path()) {
            Ok(file) => {
                file.sync_data()?;
                fadvise(&file, 0, None, Advice::DontNeed)?;
            }
            // A running broker removes files.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
