//! Commands that are programs of their own, found as git finds its: `flotilla chaos` is `flotilla-chaos` from beside this
//! program, or else from the PATH.
//!
//! Promises: what follows the command's name is handed on untouched, and the program takes this process over, so that
//! its exit code, its signals and its terminal are its own. Leaves out: programs that are not in [`KNOWN`]. A typo is
//! answered with a guess, and nothing becomes a command by lying on somebody's PATH.

use std::{
    ffi::{OsStr, OsString},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

use super::exit::Failure;

/// The names of such commands, and how to get the program if it is not there.
const KNOWN: &[(&str, &str)] = &[(
    "chaos",
    "it is built apart, so that no test code is in a broker: `cargo build --locked --release -p flotilla-chaos` in the \
     sources of flotilla, or take it from the package that flotilla came in",
)];

pub const EXAMPLES: &str = "\
It is a program of its own, flotilla-chaos, which lies beside flotilla or on the PATH. `flotilla chaos --help` asks it.

Examples:
  flotilla chaos                                      five minutes, every fault that this machine can do
  flotilla chaos --minutes 2 --seed 7 --faults kill   other faults at other times
  flotilla chaos --list                               the faults, and which are not available here";

/// The command and what follows it, if `words`, the process's arguments, ask for one of these.
pub fn asked_for(words: impl IntoIterator<Item = OsString>) -> Option<(&'static str, Vec<OsString>)> {
    let mut words = words.into_iter().skip(1);
    let name = words.next()?;
    let (known, _) = KNOWN.iter().find(|(known, _)| name == OsStr::new(known))?;
    Some((known, words.collect()))
}

/// Becomes the program of a command. Comes back only if it cannot.
pub fn become_program(command: &str, args: &[OsString]) -> Failure {
    let name = format!("flotilla-{command}");
    let own = std::env::current_exe();
    let beside = own.as_ref().ok().and_then(|own| beside(own, &name));
    // A bare name is looked for on the PATH.
    let program = beside.unwrap_or_else(|| PathBuf::from(&name));
    let error = Command::new(&program).args(args).exec();
    if error.kind() != std::io::ErrorKind::NotFound {
        return Failure::failed(format!("cannot run {}: {error}", program.display()));
    }
    let own = own.map_or("flotilla".into(), |own| own.display().to_string());
    let advice = KNOWN.iter().find(|(known, _)| *known == command).map_or("", |(_, advice)| advice);
    Failure::usage(format!("there is no {name} beside {own} and none on the PATH; {advice}"))
}

/// The answer to flags of flotilla before the name of such a command.
pub fn no_flags_before(command: &str) -> Failure {
    Failure::usage(format!("`flotilla {command}` takes no flags before its name; its own stand behind it"))
}

/// A program of that name in the directory of `own`.
fn beside(own: &Path, name: &str) -> Option<PathBuf> {
    let path = own.parent()?.join(name);
    let is_program = path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
    is_program.then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str) -> Option<(&'static str, Vec<OsString>)> {
        asked_for(line.split(' ').map(OsString::from))
    }

    #[test]
    fn what_follows_the_name_is_handed_on_untouched() {
        let (name, args) = asked("flotilla chaos --seed 1 --help -b x -- topic").expect("a program of its own");
        assert_eq!((name, args), ("chaos", "--seed 1 --help -b x -- topic".split(' ').map(OsString::from).collect()));
        for line in ["flotilla", "flotilla topic list", "flotilla chaoss", "flotilla -b x chaos", "flotilla man"] {
            assert_eq!(asked(line), None, "{line}");
        }
    }

    #[test]
    fn a_program_lies_beside_and_can_be_run() {
        let dir = tempfile::tempdir().expect("a directory");
        let (own, program) = (dir.path().join("flotilla"), dir.path().join("flotilla-chaos"));
        assert_eq!(beside(&own, "flotilla-chaos"), None);
        std::fs::write(&program, "#!/bin/sh\n").expect("it is written");
        assert_eq!(beside(&own, "flotilla-chaos"), None, "it is no program yet");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("its mode is set");
        assert_eq!(beside(&own, "flotilla-chaos"), Some(program.clone()));
        std::fs::remove_file(&program).and_then(|()| std::fs::create_dir(&program)).expect("a directory");
        assert_eq!(beside(&own, "flotilla-chaos"), None);
    }
}
