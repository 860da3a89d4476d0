//! Disks of nodes: how much they hold, small ones made for a test, and load that fills them.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{
    cluster::{Cli, QUICK},
    command::{Finished, run},
};

/// Bytes that the files below a directory take on the disk.
pub fn used_bytes(dir: &Path) -> u64 {
    // A file may go while we look.
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => used_bytes(&entry.path()),
            Ok(metadata) => metadata.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

/// What is free on a directory's file system.
#[track_caller]
pub fn free_bytes(dir: &Path) -> u64 {
    let text = run(Command::new("df").args(["--output=avail", "-B1"]).arg(dir), b"", QUICK).ok();
    let number = text.lines().nth(1).and_then(|line| line.trim().parse().ok());
    number.unwrap_or_else(|| panic!("df said {text}"))
}

/// A file system of a test, unmounted when this is dropped.
pub struct Mount(PathBuf);

impl Mount {
    /// Err: why it cannot be mounted here.
    pub fn tmpfs(at: &Path, mib: u64) -> Result<Mount, String> {
        fs::create_dir_all(at).unwrap_or_else(|error| panic!("{}: {error}", at.display()));
        let size = format!("size={mib}m");
        let Finished { code, stderr, .. } =
            run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "flotilla-test"]).arg(at), b"", QUICK);
        if code == 0 { Ok(Mount(at.to_path_buf())) } else { Err(stderr.trim().to_string()) }
    }

    /// An ext4 in a file beside `at`, which unlike a tmpfs can be frozen.
    pub fn ext4(at: &Path, mib: u64) -> Result<Mount, String> {
        fs::create_dir_all(at).unwrap_or_else(|error| panic!("{}: {error}", at.display()));
        let image = at.with_extension("ext4");
        let file = fs::File::create(&image).and_then(|file| file.set_len(mib << 20));
        file.map_err(|error| format!("{}: {error}", image.display()))?;
        for command in [
            Command::new("mkfs.ext4").arg("-q").arg(&image),
            Command::new("mount").args(["-o", "loop"]).arg(&image).arg(at),
        ] {
            let Finished { code, stderr, .. } = run(command, b"", QUICK);
            if code != 0 {
                return Err(stderr.trim().to_string());
            }
        }
        Ok(Mount(at.to_path_buf()))
    }

    pub fn at(&self) -> &Path {
        &self.0
    }

    /// Until the answer is dropped, every write and sync below waits: a disk that hangs.
    #[track_caller]
    pub fn freeze(&self) -> Frozen {
        run(Command::new("fsfreeze").arg("--freeze").arg(&self.0), b"", QUICK).ok();
        Frozen(self.0.clone())
    }
}

/// A file system that takes no writes.
pub struct Frozen(PathBuf);

impl Drop for Frozen {
    fn drop(&mut self) {
        run(Command::new("fsfreeze").arg("--unfreeze").arg(&self.0), b"", QUICK);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a process that dies may still have a file open.
        run(Command::new("umount").arg("--lazy").arg(&self.0), b"", QUICK);
    }
}

/// `flotilla bench produce` into a topic, until this is dropped.
pub struct Load(Child);

impl Load {
    #[track_caller]
    pub fn start(cli: &Cli, topic: &str, record_bytes: u64) -> Load {
        // As many as go.
        Load::paced(cli, topic, record_bytes, 0)
    }

    /// So many records a second.
    #[track_caller]
    pub fn paced(cli: &Cli, topic: &str, record_bytes: u64, rate: u32) -> Load {
        const LONGEST: Duration = Duration::from_secs(3_600);
        let (size, longest) = (format!("{record_bytes}B"), format!("{}s", LONGEST.as_secs()));
        let mut command = cli.brokered(&["bench", "produce", "-t", topic, "--size", &size, "--warmup", "0s"]);
        command.args(["--duration", &longest, "--in-flight", "1024", "--rate", &rate.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Load(command.spawn().unwrap_or_else(|error| panic!("cannot start the load: {error}")))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn used_bytes_are_those_of_all_files_below() {
    let dir = std::env::temp_dir().join(format!("flotilla-used-{}", std::process::id()));
    fs::create_dir_all(dir.join("below")).expect("a directory");
    assert_eq!(used_bytes(&dir), 0);
    for (name, bytes) in [("a", 100_000), ("below/b", 200_000)] {
        fs::write(dir.join(name), vec![1; bytes]).expect("a file");
    }
    let used = used_bytes(&dir);
    fs::remove_dir_all(&dir).expect("removed");
    assert!((300_000..400_000).contains(&used), "{used}");
    assert!(free_bytes(Path::new("/")) > 0);
}
