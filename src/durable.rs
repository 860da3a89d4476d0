//! Small files that are there, whole, after a power cut: the only place that creates or renames one.
//!
//! A file that is written and renamed is not durable by that. Its bytes are once the file is synced, its name once
//! the directory is, and the directory's own name once the one above it is. Each function here returns only
//! after all of them.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Between a file's name and the number of the process that writes it.
const TEMPORARY: &str = ".new";

/// Writes a file whole, or leaves the old one; its directories are made if they are missing. Two processes that
/// write the same file do not mix: the last one's content stands.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let parent = directory_of(path);
    create_directories(parent)?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!("{TEMPORARY}{}", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let written = write_synced(&temporary, bytes).and_then(|()| {
        note("rename", path);
        fs::rename(&temporary, path)
    });
    if written.is_err() {
        // The error to report is the first one.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    sync_directory(parent)
}

/// The file that was to be written where a process ended meanwhile: the name without what marks it temporary.
pub fn meant(name: &str) -> &str {
    match name.rsplit_once(TEMPORARY) {
        Some((meant, pid)) if !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit()) => meant,
        Some(_) | None => name,
    }
}

/// Makes a directory and those above it, as far as they are missing.
pub fn create_directories(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|at| !at.as_os_str().is_empty() && !at.is_dir()).collect();
    for at in missing.into_iter().rev() {
        match fs::create_dir(at) {
            // Made by another process meanwhile.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && at.is_dir() => {}
            made => made?,
        }
        note("make", at);
        sync_directory(directory_of(at))?;
    }
    Ok(())
}

/// Makes durable which names a directory has.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    note("sync", path);
    File::open(path)?.sync_all()
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    note("sync", path);
    file.sync_all()
}

/// Of a bare file name it is the current one.
fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(not(test))]
fn note(_: &'static str, _: &Path) {}

#[cfg(test)]
fn note(what: &'static str, path: &Path) {
    tests::NOTES.with_borrow_mut(|notes| notes.push((what, path.to_path_buf())));
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    thread_local! {
        /// What was done, in order.
        pub static NOTES: RefCell<Vec<(&'static str, PathBuf)>> = const { RefCell::new(Vec::new()) };
    }

    fn notes(below: &Path) -> Vec<(&'static str, String)> {
        let notes = NOTES.with_borrow_mut(std::mem::take);
        let name = |path: PathBuf| path.strip_prefix(below).expect("below it").display().to_string();
        notes.into_iter().map(|(what, path)| (what, name(path))).collect()
    }

    /// Nothing else can show it without cutting the power: each name is synced in the directory that has it.
    #[test]
    fn r6_content_name_and_every_new_directory_are_synced_in_this_order() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("a").join("b").join("file");
        write_whole(&path, b"one").expect("written");
        let temporary = format!("a/b/file.new{}", std::process::id());
        let expected = [
            ("make", "a"),
            ("sync", ""),
            ("make", "a/b"),
            ("sync", "a"),
            ("sync", temporary.as_str()),
            ("rename", "a/b/file"),
            ("sync", "a/b"),
        ];
        assert_eq!(notes(dir.path()), expected.map(|(what, at)| (what, at.to_string())));
        assert_eq!(fs::read(&path).expect("there"), b"one");
        write_whole(&path, b"two").expect("written");
        assert_eq!(
            notes(dir.path()),
            expected[4..].iter().map(|(what, at)| (*what, at.to_string())).collect::<Vec<_>>()
        );
        assert_eq!(fs::read(&path).expect("there"), b"two");
        assert_eq!(fs::read_dir(path.parent().expect("a/b")).expect("a/b").count(), 1, "no temporary file is left");
    }

    #[test]
    fn what_a_killed_process_left_is_known_by_its_name() {
        for (name, file) in [("FLOOR.new77", "FLOOR"), ("FLOOR", "FLOOR"), ("a.new", "a.new"), ("a.newer", "a.newer")] {
            assert_eq!(meant(name), file);
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_the_old_one_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        // A directory that is not empty cannot be replaced by a file.
        let path = dir.path().join("taken");
        fs::create_dir_all(path.join("inside")).expect("made");
        write_whole(&path, b"one").expect_err("it is a directory");
        assert!(path.join("inside").is_dir());
        assert_eq!(fs::read_dir(dir.path()).expect("there").count(), 1);
        notes(dir.path());
    }
}
