//! Files: what is written comes back, what is cut off is told, what is damaged is refused, and nothing panics.

use std::{fs, path::Path};

use proptest::prelude::*;
use tempfile::TempDir;

use crate::{
    check,
    dump::{Filter, dump},
    event::{AdminCall, AdminResult, Body, Event, Phase, Poll, Polled, Seek, Send, Sent},
    files::{self, BadFile, Ended, Events},
    generate::Plan,
    mutate::History,
    recorder::Recorder,
    report::Verdict,
    wire::{self, encode},
};

fn small() -> Plan {
    Plan { sends: 300, keys: 3, rebalance_in: 20, poll_records: 20, ..Plan::default() }
}

fn written(plan: &Plan) -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    plan.write(dir.path()).expect("a history");
    dir
}

/// All events of a file, how it ended, or why it cannot be read.
fn read(path: &Path) -> Result<(Vec<Event>, Ended), BadFile> {
    let mut file = Events::open(path)?;
    let mut events = vec![];
    while let Some(event) = file.next_event()? {
        events.push(event);
    }
    Ok((events, file.ended().expect("it has ended")))
}

#[test]
fn what_is_written_comes_back() {
    let plan = small();
    let dir = written(&plan);
    let history = History::read(dir.path()).expect("a history");
    let by_name: Vec<_> = plan.workers().into_iter().zip(plan.events()).collect();
    for (name, events) in by_name {
        let at = history.names.iter().position(|found| *found == name).expect("the worker's file");
        assert_eq!(history.workers[at], events, "{name}");
    }
    assert_eq!((history.meta, history.nemesis.lines), (plan.meta(), plan.nemesis()));
    let kinds: std::collections::HashSet<_> =
        history.workers.iter().flatten().map(|event| std::mem::discriminant(&event.body)).collect();
    assert_eq!(kinds.len(), 24, "all but one that leaves a group");
}

/// No generated history has one: its operators are told by brokers that are not behind.
#[test]
fn what_was_answered_from_memory_comes_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let recorder = Recorder::create(dir.path(), 1).expect("a recorder");
    let mut worker = recorder.worker("topics").expect("a worker");
    let result = AdminResult::Remembered { partitions: 3, config: 3_600_001 };
    let op = worker.begin(1, Body::Admin { topic: 0, call: AdminCall::Describe }).expect("written");
    worker.complete(1, op, Body::Administered { result, error: 0 }).expect("written");
    worker.finish().expect("written");
    let path = files::list(dir.path()).expect("the files").remove(0);
    let (events, _) = read(&path).expect("a file");
    assert_eq!(events[1].body, Body::Administered { result, error: 0 });
}

/// The format is a promise: these literals change only with the version in the magic.
#[test]
fn bytes_of_frames_are_frozen() {
    let event = |at, op, body| Event { at, process: 300, op, phase: Phase::Main, body };
    let mut out = vec![];
    let mut previous = encode::Previous::default();
    let send = Send { key: 1, value: 1000, acks: -1, producer: None, batch: Some(5) };
    encode::put_frame(&mut out, &mut vec![], &mut previous, &event(1000, 7, Body::Send(send)));
    let sent = Sent { offset: Some(64), attempts: 1, node: 2, outcome: crate::event::Outcome::Ok, ..Sent::default() };
    encode::put_frame(&mut out, &mut vec![], &mut previous, &event(1500, 7, Body::Sent(sent)));
    let hex: String = out.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, FROZEN);
    assert_eq!(wire::MAGIC, *b"LOGCHEK\x01");
}

const FROZEN: &str = "0d0101e807ac020e01e807ff0205d908a2340e0201f403ac0200000001020180012701bcd6";

#[test]
fn a_file_that_is_cut_off_anywhere_is_told_and_never_valid() {
    let dir = written(&Plan { sends: 20, ..small() });
    let path = files::list(dir.path()).expect("files").remove(4);
    let whole = fs::read(&path).expect("bytes");
    let (all, ended) = read(&path).expect("events");
    assert_eq!(ended, Ended::Finished);
    let mut seen = 0;
    for length in wire::HEADER_BYTES..whole.len() {
        fs::write(&path, &whole[..length]).expect("write");
        let (events, ended) = read(&path).unwrap_or_else(|error| panic!("{length}: {error}"));
        assert!(matches!(ended, Ended::Unfinished { .. }), "{length}: {ended:?}");
        assert_eq!(events, all[..events.len()], "{length}");
        assert!(events.len() >= seen, "{length}: fewer events");
        seen = events.len();
    }
    let report = check(dir.path()).expect("a history");
    assert_ne!(report.verdict, Verdict::Valid);
}

#[test]
fn what_an_unfinished_worker_may_have_sent_is_a_doubt() {
    let dir = written(&small());
    let mut history = History::read(dir.path()).expect("a history");
    let at = history.names.iter().position(|name| name == "producer-0").expect("it is there");
    let kept = history.workers[at].len() / 2;
    history.workers[at].truncate(kept);
    let again = tempfile::tempdir().expect("a directory");
    history.write(again.path()).expect("write");
    // Finished, it says that there was nothing more.
    assert_eq!(check(again.path()).expect("a history").broken(), ["phantom"]);
    let path = files::history_dir(again.path()).join("producer-0.bin");
    let bytes = fs::read(&path).expect("bytes");
    fs::write(&path, &bytes[..bytes.len() - 5]).expect("write");
    let report = check(again.path()).expect("a history");
    assert_eq!((report.verdict, report.broken()), (Verdict::Unknown, vec![]));
    let doubts: u64 = report.rules.iter().map(|rule| rule.doubts).sum();
    assert!(doubts > 0);
}

#[test]
fn a_flipped_bit_is_an_error_that_names_the_place() {
    let dir = written(&Plan { sends: 20, ..small() });
    let path = files::list(dir.path()).expect("files").remove(4);
    let whole = fs::read(&path).expect("bytes");
    let (all, _) = read(&path).expect("events");
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        fs::write(&path, &damaged).expect("write");
        match read(&path) {
            Err(error) => assert!(error.to_string().contains("producer-0.bin"), "{error}"),
            // A length that reaches beyond the file looks like one that was cut off; nothing is made up.
            Ok((events, Ended::Unfinished { .. })) => assert_eq!(events, all[..events.len()], "byte {at}"),
            Ok((events, Ended::Finished)) => assert!((8..12).contains(&at) && events == all, "byte {at}"),
        }
    }
}

#[test]
fn a_file_of_another_run_and_bytes_behind_the_end_are_refused() {
    let dir = written(&small());
    let path = files::list(dir.path()).expect("files").remove(0);
    let whole = fs::read(&path).expect("bytes");
    let mut other = whole.clone();
    other[8] ^= 1;
    fs::write(&path, &other).expect("write");
    assert!(matches!(check(dir.path()), Err(BadFile::Run { .. })));
    fs::write(&path, [&whole[..], b"x"].concat()).expect("write");
    assert!(matches!(check(dir.path()), Err(BadFile::BehindEnd { left: 1, .. })));
    fs::write(&path, b"LOG").expect("write");
    assert!(matches!(check(dir.path()), Err(BadFile::Magic { .. })));
    // Zeros behind what was written, as a power cut leaves them, are no end.
    let zeros = [&whole[..whole.len() - 5], &[0; 64]].concat();
    fs::write(&path, &zeros).expect("write");
    assert!(matches!(check(dir.path()), Err(BadFile::Checksum { .. })));
    fs::remove_dir_all(files::history_dir(dir.path())).expect("remove");
    fs::create_dir(files::history_dir(dir.path())).expect("create");
    assert!(matches!(check(dir.path()), Err(BadFile::Empty(_))));
}

#[test]
fn a_promise_that_is_misspelt_is_refused() {
    let dir = written(&small());
    let path = files::meta_path(dir.path());
    let text = fs::read_to_string(&path).expect("text");
    for (from, to) in [("linearizable_fetch", "linearisable_fetch"), ("\"format\": 1", "\"format\": 2")] {
        fs::write(&path, text.replace(from, to)).expect("write");
        assert!(matches!(check(dir.path()), Err(BadFile::Text { .. })), "{to}");
    }
    fs::write(&path, &text).expect("write");
    let nemesis = files::nemesis_path(dir.path());
    fs::write(&nemesis, "{\"event\":\"start\"}\n").expect("write");
    assert!(matches!(check(dir.path()), Err(BadFile::Text { .. })));
}

#[test]
fn a_cut_off_line_of_the_nemesis_is_told() {
    let dir = written(&small());
    assert_eq!(check(dir.path()).expect("a history").verdict, Verdict::Valid);
    let path = files::nemesis_path(dir.path());
    let text = fs::read_to_string(&path).expect("text");
    fs::write(&path, format!("{text}{{\"event\":\"sta")).expect("write");
    assert_eq!(check(dir.path()).expect("a history").verdict, Verdict::Unknown);
}

#[test]
fn the_recorder_keeps_what_a_worker_did_that_panics() {
    let dir = tempfile::tempdir().expect("a directory");
    let recorder = Recorder::create(dir.path(), 7).expect("create");
    let clone = recorder.clone();
    let died = std::thread::spawn(move || {
        let mut worker = clone.worker("w").expect("a file");
        worker.enter(Phase::Main);
        worker.note(3, Body::Assign { keys: vec![0], seek: Seek::Keep }).expect("write");
        let op = worker.begin(3, Body::Poll(Poll { from: crate::event::From::Assigned, node: 0 })).expect("write");
        worker.complete(3, op, Body::Polled(Polled::default())).expect("write");
        panic!("as it was meant to");
    });
    assert!(died.join().is_err());
    let (events, ended) = read(&files::list(dir.path()).expect("files")[0]).expect("events");
    assert_eq!((events.len(), ended), (3, Ended::Unfinished { torn_bytes: 0 }));
    assert!(events.windows(2).all(|pair| pair[0].at <= pair[1].at));
    assert!(recorder.worker("w").is_err(), "a worker's file is its own");
    assert!(Recorder::create(dir.path(), 7).is_err(), "a directory holds one history");
    assert_eq!([recorder.value(), recorder.value()], [0, 1]);
}

#[test]
fn a_dump_is_one_object_an_event_in_order_of_time() {
    let plan = small();
    let dir = written(&plan);
    let lines = |filter: &Filter| -> Vec<serde_json::Value> {
        let mut out = vec![];
        dump(dir.path(), filter, &mut out).expect("a dump");
        let text = String::from_utf8(out).expect("text");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let all = lines(&Filter::default());
    assert_eq!(all.len(), plan.events().iter().map(Vec::len).sum::<usize>());
    assert!(all.windows(2).all(|pair| pair[0]["at"].as_u64() <= pair[1]["at"].as_u64()));
    let of_value = lines(&Filter { value: Some(17), ..Filter::default() });
    assert!(
        of_value.iter().any(|line| line["event"] == "send") && of_value.iter().any(|line| line["event"] == "polled")
    );
    let until = lines(&Filter { to: all[9]["at"].as_u64(), process: Some(0), ..Filter::default() });
    assert!(until.len() < 10 && until.iter().all(|line| line["process"] == 0));
}

proptest! {
    /// Whatever bytes a file has: events, or an error.
    #[test]
    fn hostile_bytes_are_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200), framed: bool) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x.bin");
        let mut file = wire::MAGIC.to_vec();
        file.extend([0; 4]);
        if framed {
            // A checksum that is right lets them through to the decoder.
            let length = bytes.len() as u8;
            file.extend([length & 0x7f | 0x80, length >> 7]);
            file.extend(&bytes);
            file.extend(crc32c::crc32c(&bytes).to_le_bytes());
        } else {
            file.extend(&bytes);
        }
        fs::write(&path, &file).expect("write");
        if let Err(error) = read(&path) {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    /// Events with any numbers in them: facts and a report, or an error.
    #[test]
    fn hostile_events_are_an_error_or_a_report(
        offsets in prop::collection::vec(any::<i64>(), 1..6),
        key in 0u32..6,
        value in any::<u64>(),
        at in any::<u64>(),
    ) {
        let mut meta = small().meta();
        meta.promises.retention = value % 2 == 0;
        let runs = offsets.iter().map(|offset| crate::event::Run {
            key,
            records: vec![crate::event::Record { offset: *offset, value }],
            high_watermark: Some(*offset),
            log_start: Some(offsets[0]),
            epoch: Some(*offset as i32),
        });
        let event = |at, op, body| Event { at, process: 1, op, phase: Phase::Final, body };
        let send = Send { key, value, acks: -1, producer: None, batch: None };
        let sent = Sent { offset: Some(offsets[0]), outcome: crate::event::Outcome::Ok, ..Sent::default() };
        let commit = crate::event::Commit { group: 1, key, offset: offsets[0], generation: 1, member: 1, id: value };
        let from = crate::event::From::Fetch { key, position: offsets[0] };
        let polled = Polled { outcome: crate::event::Outcome::Ok, error: 0, runs: runs.collect() };
        let events = vec![
            event(at, 0, Body::Send(send)),
            event(at, 0, Body::Sent(sent)),
            event(at, 1, Body::Subscribe { group: 1, keys: vec![0] }),
            event(at, 2, Body::Poll(Poll { from, node: 0 })),
            event(at, 2, Body::Polled(polled.clone())),
            event(at, 3, Body::Poll(Poll { from: crate::event::From::Group, node: 0 })),
            event(at, 3, Body::Polled(polled)),
            event(at, 4, Body::Commit(commit)),
        ];
        if let Ok(facts) = crate::load::facts_of(&meta, &[events]) {
            crate::check::check_facts(&facts, &meta, &crate::nemesis::Nemesis::default());
        }
    }
}
