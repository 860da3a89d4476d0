//! A `flotilla consume` at work: what it printed, when, and how it ended.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Stdio},
    sync::{Arc, Mutex, mpsc::Receiver},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    cluster::{Cli, QUICK},
    command::{collect, collected, signal, spell, wait, wait_for},
};

/// A printed record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub topic: String,
    pub partition: u32,
    pub offset: i64,
    pub key: String,
    pub value: String,
    /// When we read it.
    pub at: Instant,
}

impl Line {
    fn parse(line: &str, at: Instant) -> Line {
        let mut words = line.splitn(5, ' ');
        let mut word = || words.next().unwrap_or_else(|| panic!("not `topic partition offset key value`: {line}"));
        let topic = word().to_string();
        let partition = word().parse().unwrap_or_else(|_| panic!("not a partition: {line}"));
        let offset = word().parse().unwrap_or_else(|_| panic!("not an offset: {line}"));
        let (key, value) = (word().to_string(), word().to_string());
        Line { topic, partition, offset, key, value, at }
    }
}

/// A consumer that runs. Ended with the test's directory at the latest.
pub struct Consumer {
    child: Child,
    lines: Arc<Mutex<Vec<Line>>>,
    reading: JoinHandle<()>,
    complaining: Receiver<String>,
    line: String,
}

/// How a consumer ended.
#[derive(Debug)]
pub struct Consumed {
    pub lines: Vec<Line>,
    /// The exit code, or -1 if a signal ended it.
    pub code: i32,
    pub stderr: String,
    line: String,
}

impl Consumer {
    /// `args`: what stands behind `flotilla consume`, but for the format and the brokers.
    pub fn start(cli: &Cli, args: &[&str]) -> Consumer {
        let mut command = cli.brokered(&["consume"]);
        command.args(args).args(["--format", "%t %p %o %k %v\\n"]);
        let line = spell(&command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot run `{line}`: {error}"));
        let stdout = child.stdout.take().expect("piped");
        let complaining = collect(child.stderr.take().expect("piped"));
        let lines = Arc::new(Mutex::new(vec![]));
        let shared = lines.clone();
        let reading = thread::spawn(move || {
            read_lines(stdout, |line| shared.lock().expect("nobody panics with it").push(line));
        });
        Consumer { child, lines, reading, complaining, line }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Records printed so far.
    pub fn count(&self) -> usize {
        self.lines.lock().expect("nobody panics with it").len()
    }

    /// What was printed so far.
    pub fn lines(&self) -> Vec<Line> {
        self.lines.lock().expect("nobody panics with it").clone()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }

    /// Waits until it has printed so many records in all.
    #[track_caller]
    pub fn wait_count(&mut self, goal: usize, deadline: Duration) {
        wait_for(&format!("{goal} records of `{}`", self.line.clone()), deadline, || {
            let count = self.count();
            match count >= goal {
                true => Ok(()),
                false if !self.is_running() => Err(format!("{count} records, and it has ended")),
                false => Err(format!("{count} records")),
            }
        });
    }

    /// SIGKILL. A last line that it did not finish does not count.
    pub fn kill(mut self) -> Consumed {
        // Fails if it has ended by itself, which its exit code will say.
        signal("KILL", &[self.pid()]);
        let _ = self.child.wait();
        self.ended(QUICK)
    }

    /// SIGTERM, and waits for its end.
    #[track_caller]
    pub fn stop(self) -> Consumed {
        assert!(signal("TERM", &[self.pid()]), "`{}` was gone", self.line);
        self.ended(QUICK)
    }

    /// Waits until it ends by itself.
    #[track_caller]
    pub fn ended(mut self, deadline: Duration) -> Consumed {
        let status = wait(&mut self.child, deadline);
        self.reading.join().expect("every line has the format asked for");
        let stderr = collected(&self.complaining, &self.line);
        let lines = std::mem::take(&mut *self.lines.lock().expect("nobody panics with it"));
        let code = status.and_then(|status| status.code()).unwrap_or(-1);
        Consumed { lines, code, stderr, line: self.line }
    }
}

impl Consumed {
    /// What it printed, if it ended well.
    #[track_caller]
    pub fn ok(self) -> Vec<Line> {
        assert_eq!(self.code, 0, "`{}`: {}", self.line, self.stderr);
        self.lines
    }
}

/// Whole lines only: a killed process may leave half of one.
fn read_lines(pipe: impl Read, mut take: impl FnMut(Line)) {
    let mut pipe = BufReader::with_capacity(1 << 20, pipe);
    let mut line = vec![];
    while pipe.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        if line.pop() == Some(b'\n') {
            take(Line::parse(&String::from_utf8_lossy(&line), Instant::now()));
        }
        line.clear();
    }
}

#[test]
fn half_a_line_does_not_count() {
    let mut lines = vec![];
    read_lines(&b"t 1 7 k a b\nt 0 0  v\nt 1 8 k a"[..], |line| lines.push(line));
    let got: Vec<_> = lines.iter().map(|l| (l.partition, l.offset, l.key.as_str(), l.value.as_str())).collect();
    assert_eq!(got, [(1, 7, "k", "a b"), (0, 0, "", "v")]);
}
