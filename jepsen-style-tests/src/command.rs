//! Running a command to its end, never longer than a deadline.

use std::{
    io::{Read, Write},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

/// How a command ended.
#[derive(Debug)]
pub struct Finished {
    /// The exit code, or -1 if a signal ended it (ours, at the deadline, too).
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
    /// As typed, for messages.
    pub line: String,
}

impl Finished {
    /// Its standard output, if it succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(
            self.code == 0,
            "`{}` exited with {} after {:?}\n--- stdout\n{}\n--- stderr\n{}",
            self.line,
            self.code,
            self.took,
            last_part(&self.stdout),
            last_part(&self.stderr)
        );
        self.stdout
    }
}

/// Enough of a long output to see what went wrong.
fn last_part(text: &str) -> &str {
    const SHOWN_BYTES_MAX: usize = 4_000;
    let mut start = text.len().saturating_sub(SHOWN_BYTES_MAX);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

/// Runs to the end; at the deadline the command is killed and its code is -1.
pub fn run(command: &mut Command, input: &[u8], deadline: Duration) -> Finished {
    let line = spell(command);
    let began = Instant::now();
    let stdin = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run `{line}`: {error}"));
    if let Some(mut pipe) = child.stdin.take() {
        let input = input.to_vec();
        // Fails when the command ends without reading all; its exit code tells.
        thread::spawn(move || pipe.write_all(&input));
    }
    let stdout = collect(child.stdout.take().expect("piped"));
    let stderr = collect(child.stderr.take().expect("piped"));
    let status = wait(&mut child, deadline);
    let [stdout, stderr] = [stdout, stderr].map(|output| collected(&output, &line));
    let code = status.and_then(|status| status.code()).unwrap_or(-1);
    Finished { code, stdout, stderr, took: began.elapsed(), line }
}

/// The end of a process, or none if it had to be killed at the deadline.
pub fn wait(child: &mut Child, deadline: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + deadline;
    while Instant::now() < end {
        if let Some(status) = child.try_wait().expect("our own child can be waited for") {
            return Some(status);
        }
        pause();
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

/// Between two looks at something outside that offers nothing to wait on.
pub fn pause() {
    const POLL: Duration = Duration::from_millis(10);
    thread::sleep(POLL);
}

/// Waits until `look` gives something, or fails naming what it waited for and what it last saw.
#[track_caller]
pub fn wait_for<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + deadline;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if Instant::now() >= end => panic!("waited {deadline:?} for {what}; last seen: {seen}"),
            Err(_) => pause(),
        }
    }
}

/// Reads a pipe to its end, aside.
pub fn collect(mut pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (done, output) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = vec![];
        let _ = pipe.read_to_end(&mut bytes);
        done.send(String::from_utf8_lossy(&bytes).into_owned())
    });
    output
}

/// What `collect` read, after the command ended. A process that it started and left behind must not
/// hold its pipes: whoever waits for their end would wait for ever.
#[track_caller]
pub fn collected(output: &Receiver<String>, line: &str) -> String {
    const AFTER_THE_END: Duration = Duration::from_secs(10);
    let late = |_| panic!("`{line}` ended, and something it started still holds its output");
    output.recv_timeout(AFTER_THE_END).unwrap_or_else(late)
}

pub fn spell(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Sends a signal to processes, all in one call. False if any of them was gone.
pub fn signal(name: &str, pids: &[u32]) -> bool {
    let mut kill = Command::new("kill");
    kill.arg(format!("-{name}")).args(pids.iter().map(u32::to_string));
    kill.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

#[test]
fn a_command_ends_at_its_deadline() {
    let finished = run(Command::new("sleep").arg("100"), b"", Duration::from_millis(50));
    assert_eq!(finished.code, -1);
    let finished = run(&mut Command::new("cat"), b"x", Duration::from_secs(10));
    assert_eq!((finished.code, finished.stdout.as_str()), (0, "x"));
}
