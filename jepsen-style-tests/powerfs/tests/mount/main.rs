//! What a process sees of a real mount: each test mounts a disk, does what a program would do, cuts the power and looks.
//!
//! It needs `/dev/fuse` and the right to mount. Where they are missing every test is counted as skipped, with the reason; a run
//! that must not skip says so with `FLOTILLA_TEST_POWER=required`. `cargo test -p powerfs --test mount -- WORD` runs those whose
//! name has the word in it.

mod durable;
mod faults;
mod files;
mod raw;

use std::{
    env, fs,
    os::unix::fs::OpenOptionsExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::ExitCode,
};

use powerfs::{Cut, Mounted, Options, Tail};

pub type Test = (&'static str, fn());

/// The names of functions with them.
#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)?) => { &[$((stringify!($name), $name as fn())),*] };
}

const TESTS: [&[Test]; 3] = [durable::TESTS, files::TESTS, faults::TESTS];

fn main() -> ExitCode {
    let wanted = env::args().skip(1).find(|word| !word.starts_with('-')).unwrap_or_default();
    let chosen: Vec<&Test> = TESTS.into_iter().flatten().filter(|(name, _)| name.contains(&wanted)).collect();
    if let Some(why) = powerfs::unavailable() {
        let required = env::var("FLOTILLA_TEST_POWER").is_ok_and(|value| value == "required");
        chosen.iter().for_each(|(name, _)| println!("test {name} ... skipped: {why}"));
        let result = if required { "FAILED" } else { "ok" };
        println!("\ntest result: {result}. 0 passed; 0 failed; {} skipped: {why}", chosen.len());
        return if required { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    let mut failed: Vec<&str> = vec![];
    for (name, test) in &chosen {
        let is_ok = catch_unwind(AssertUnwindSafe(test)).is_ok();
        println!("test {name} ... {}", if is_ok { "ok" } else { "FAILED" });
        failed.extend((!is_ok).then_some(name));
    }
    let passed = chosen.len() - failed.len();
    let result = if failed.is_empty() { "ok" } else { "FAILED" };
    println!("\ntest result: {result}. {passed} passed; {} failed; 0 skipped; {failed:?}", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A mounted disk of a test.
pub struct Disk {
    mounted: Mounted,
    // Removed once nothing is mounted on it.
    _dir: tempfile::TempDir,
}

impl Default for Disk {
    fn default() -> Disk {
        Disk::with(Options::default())
    }
}

impl Disk {
    pub fn with(options: Options) -> Disk {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mounted = Mounted::new(dir.path(), options).expect("mounted");
        Disk { mounted, _dir: dir }
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.mounted.at().join(name)
    }

    pub fn power(&self) -> &powerfs::Power {
        self.mounted.power()
    }

    /// Off and on again.
    pub fn cut(&self, tail: Tail, seed: u64) {
        self.power().cut(Cut::new(tail, seed));
        self.power().on();
    }

    pub fn sync_names(&self) {
        sync(self.mounted.at());
    }

    /// A file whose bytes and name are durable.
    pub fn make(&self, name: &str, bytes: &[u8]) {
        fs::write(self.at(name), bytes).expect("written");
        sync(&self.at(name));
        self.sync_names();
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.at(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.mounted.at()).expect("listed");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

pub fn sync(path: &Path) {
    fs::File::open(path).and_then(|file| file.sync_all()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// To write to, with flags of open(2).
pub fn open(path: &Path, flags: i32) -> fs::File {
    let opened =
        fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).custom_flags(flags).open(path);
    opened.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[track_caller]
pub fn assert_errno<T>(done: std::io::Result<T>, errno: i32) {
    let error = done.err().expect("it fails");
    assert_eq!(error.raw_os_error(), Some(errno), "{error}");
}
