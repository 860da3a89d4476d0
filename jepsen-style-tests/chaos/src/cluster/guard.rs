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
for data in "$0"/n*/data; do
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
