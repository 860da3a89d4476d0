//! A panic of the command line: one sentence that it is our fault, and the end.
//!
//! Leaves out: a broker's, which must show where (`server::logs`).

use std::{panic, process};

use super::{exit::OUR_FAULT, terminal::say};

/// From here on a panic ends the process at once, whichever thread it is in: half a command is worth less than none.
pub fn end_with_a_sentence() {
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(|| "an unknown place".into(), ToString::to_string);
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let reason = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no reason given");
        say(&sentence(reason, &place));
        process::exit(i32::from(OUR_FAULT));
    }));
}

fn sentence(reason: &str, place: &str) -> String {
    let reason = reason.replace('\n', " ");
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "flotilla: this is a fault of flotilla, not yours: please report this line, and what you typed, to where you \
         have flotilla from (version {version}, {place}: {reason})"
    )
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const CHILD: &str = "FLOTILLA_TEST_PANICS";

    #[test]
    fn a_panic_is_one_sentence_and_a_code_of_its_own() {
        if std::env::var_os(CHILD).is_some() {
            end_with_a_sentence();
            let thread = std::thread::spawn(|| panic!("two\nlines"));
            panic!("never reached: {}", thread.join().is_err());
        }
        let this = std::env::current_exe().expect("a test binary");
        let name = "cli::crash::tests::a_panic_is_one_sentence_and_a_code_of_its_own";
        let mut child = Command::new(this);
        child.args(["--exact", name, "--nocapture"]).env(CHILD, "yes").env("RUST_BACKTRACE", "full");
        let ended = child.output().expect("it runs");
        let said = String::from_utf8_lossy(&ended.stderr);
        let ours: Vec<&str> = said.lines().filter(|line| line.contains("fault of flotilla")).collect();
        assert_eq!((ended.status.code(), ours.len()), (Some(70), 1), "{said}");
        assert!(ours[0].contains("crash.rs") && ours[0].contains("two lines"), "{said}");
        assert!(!said.contains("backtrace"), "{said}");
    }
}
