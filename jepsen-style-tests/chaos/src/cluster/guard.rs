//! What ends the brokers and takes the mounts away if this process cannot do it any more, because it was killed.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::error::ChaosError;

/// Waits for the end of its input, which is ours. A pid is only killed if its command line names the directory.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
cat > /dev/null
for file in "$0"/n*/pid; do
    pid=$(cat "$file" 2>/dev/null) || continue
    if tr '\0' ' ' < "/proc/$pid/cmdline" 2>/dev/null | grep -qF "$0/"; then kill -KILL "$pid"; fi
done
# Not "$0"/n*/data: nothing can be found out about a mount whose file system has died, not even that it is there.
for node in "$0"/n*; do
    data="$node/data"
    if grep -qF " $data " /proc/mounts; then umount -l "$data" 2>/dev/null || fusermount3 -uz "$data" 2>/dev/null; fi
done
"#;

/// A process that outlives this one by a moment.
#[derive(Debug)]
pub struct Guard(Child);

impl Guard {
    /// Guards what lies in `dir`, which has to be absolute.
    pub fn over(dir: &Path) -> Result<Guard, ChaosError> {
        let mut command = Command::new("sh");
        command.arg("-c").arg(SCRIPT).arg(dir).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let spawned = command.spawn();
        spawned.map(Guard).map_err(|error| ChaosError::Program { program: "sh".into(), error })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::process::CommandExt};

    use super::*;

    #[test]
    fn processes_of_its_directory_are_ended_and_no_others() {
        let dir = tempfile::tempdir().expect("a directory");
        let node = dir.path().join("n1");
        fs::create_dir_all(&node).expect("made");
        let named = |arg: &std::path::Path| {
            let mut sleeper = Command::new("sh");
            sleeper.arg0(arg.join("x")).arg("-c").arg("read line").stdin(Stdio::piped());
            sleeper.spawn().expect("started")
        };
        let (mut ours, mut other) = (named(dir.path()), named(Path::new("/elsewhere")));
        fs::write(node.join("pid"), ours.id().to_string()).expect("written");
        fs::create_dir(dir.path().join("n2")).expect("made");
        fs::write(dir.path().join("n2/pid"), other.id().to_string()).expect("written");
        drop(Guard::over(dir.path()).expect("started"));
        assert!(!ours.wait().expect("it has ended").success(), "it was killed");
        assert!(other.try_wait().expect("it can be asked").is_none(), "its command line names another directory");
        other.kill().expect("it runs");
        other.wait().expect("it ends");
    }
}
