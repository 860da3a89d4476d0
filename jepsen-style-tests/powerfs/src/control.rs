//! The switch for other programs: one command a line through a Unix socket, one line of answer each. It begins with `ok` or
//! with `error`.

use std::{
    fmt::Display,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    str::FromStr,
    thread,
    time::Duration,
};

use crate::{
    fate::{Cut, Unit},
    power::Power,
};

/// Longer lines are no commands.
const LINE_BYTES_MAX: u64 = 8 << 10;

/// What can be said, one command a line.
pub const HELP: &str = "\
cut TAIL [SEED] [UNIT]   the power goes. TAIL: clean, torn, zero or garbage; SEED: a number (0);
                         UNIT of what survives: sector (512 bytes) or page (4 KiB), else drawn
on                       the power is back; handles of before the cut stay void
fsync-error WHEN         never, once or forever
fsync-delay MS           every sync takes so long
hang on|off              syncs wait until it is off again
lie on|off               syncs succeed and do nothing
read-only on|off         writes are refused with EROFS
full BYTES|off           the disk is full at so many bytes (ENOSPC)
flip PATH AT [MASK]      turns bits over in the byte at AT, also in what was synced (MASK 1)
chop PATH BYTES          cuts the end of a file off, also of what was synced
status                   power, faults and counters
stop                     unmounts, and ends the program that holds the mount";

/// Does what one line says.
pub fn run(line: &str, power: &Power) -> Result<String, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        ["cut", tail] => cut(power, tail, "0", None),
        ["cut", tail, seed] => cut(power, tail, seed, None),
        ["cut", tail, seed, unit] => cut(power, tail, seed, Some(unit_of(unit)?)),
        ["on"] => {
            power.on();
            Ok(String::new())
        }
        ["fsync-error", when] => {
            let when = parse(when)?;
            set(power, |faults| faults.sync_errors = when)
        }
        ["fsync-delay", ms] => {
            let delay = Duration::from_millis(parse(ms)?);
            set(power, |faults| faults.sync_delay = delay)
        }
        ["hang", word] => {
            let is = switch(word)?;
            set(power, |faults| faults.is_hung = is)
        }
        ["lie", word] => {
            let is = switch(word)?;
            set(power, |faults| faults.lies = is)
        }
        ["read-only", word] => {
            let is = switch(word)?;
            set(power, |faults| faults.is_read_only = is)
        }
        ["full", word] => {
            let at = if word == "off" { None } else { Some(parse(word)?) };
            set(power, |faults| faults.full_at_bytes = at)
        }
        ["flip", path, at] => flip(power, path, at, "1"),
        ["flip", path, at, mask] => flip(power, path, at, mask),
        ["chop", path, bytes] => {
            let chopped = power.chop(Path::new(path), parse(bytes)?);
            chopped.map(|()| String::new()).map_err(|refusal| format!("{path}: {refusal}"))
        }
        ["status"] => Ok(power.status()),
        _ => Err(format!("{line:?} is no command; `powerfs ctl --help` lists them")),
    }
}

fn set(power: &Power, change: impl FnOnce(&mut crate::faults::Faults)) -> Result<String, String> {
    power.set_faults(change);
    Ok(power.faults().to_string())
}

fn cut(power: &Power, tail: &str, seed: &str, unit: Option<Unit>) -> Result<String, String> {
    let cut = Cut { tail: parse(tail)?, seed: parse(seed)?, unit };
    let loss = power.cut(cut);
    Ok(format!("lost-bytes={} undone-names={}", loss.bytes, loss.names))
}

fn flip(power: &Power, path: &str, at: &str, mask: &str) -> Result<String, String> {
    let flipped = power.flip(Path::new(path), parse(at)?, parse(mask)?);
    flipped.map(|()| String::new()).map_err(|refusal| format!("{path}: {refusal}"))
}

fn parse<T: FromStr<Err: Display>>(word: &str) -> Result<T, String> {
    word.parse().map_err(|error| format!("{word}: {error}"))
}

fn unit_of(word: &str) -> Result<Unit, String> {
    match word {
        "sector" => Ok(Unit::Sector),
        "page" => Ok(Unit::Page),
        _ => Err(format!("{word:?} is neither sector nor page")),
    }
}

fn switch(word: &str) -> Result<bool, String> {
    match word {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("{word:?} is neither on nor off")),
    }
}

/// Listens at a path until the process ends. `stop` is called when somebody says so.
pub fn listen(at: &Path, power: Power, stop: impl Fn() + Clone + Send + 'static) -> io::Result<()> {
    // Of an earlier run that was killed; whoever has it open is not disturbed.
    let _ = std::fs::remove_file(at);
    let listener = UnixListener::bind(at)?;
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let (power, stop) = (power.clone(), stop.clone());
            // A command waits for nobody but the disk's lock, so one connection after the other would do; but one that
            // says nothing must not keep the others from cutting the power.
            thread::spawn(move || serve(connection, &power, stop));
        }
    });
    Ok(())
}

fn serve(connection: UnixStream, power: &Power, stop: impl Fn()) -> io::Result<()> {
    let mut answers = connection.try_clone()?;
    let mut commands = BufReader::new(connection);
    loop {
        let mut line = String::new();
        if commands.by_ref().take(LINE_BYTES_MAX).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let line = line.trim();
        if line == "stop" {
            answers.write_all(b"ok\n")?;
            stop();
            return Ok(());
        }
        let answer = match run(line, power) {
            Ok(said) if said.is_empty() => "ok\n".to_string(),
            Ok(said) => format!("ok {said}\n"),
            Err(why) => format!("error {why}\n"),
        };
        answers.write_all(answer.as_bytes())?;
    }
}

/// Says one command to whoever listens at a path. Err: it was not done, and why.
pub fn say(at: &Path, command: &str) -> io::Result<Result<String, String>> {
    let mut connection = UnixStream::connect(at)?;
    connection.write_all(format!("{command}\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(connection).read_line(&mut answer)?;
    let answer = answer.trim_end();
    Ok(match answer.split_once(' ') {
        Some(("ok", said)) => Ok(said.to_string()),
        None if answer == "ok" => Ok(String::new()),
        Some(("error", why)) => Err(why.to_string()),
        _ => Err(format!("{}: said {answer:?}", at.display())),
    })
}
