//! Faults of a disk that has power, and the control socket.

use std::{
    fs,
    os::unix::fs::FileExt,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use powerfs::{Cut, SyncErrors, Tail, control};

use crate::{Disk, Test, assert_errno, open, tests};

pub const TESTS: &[Test] = tests![
    a_sync_fails_once_or_for_ever,
    a_sync_takes_as_long_as_it_is_told_to,
    a_sync_hangs_until_it_is_released_or_the_power_goes,
    a_full_and_a_read_only_disk_refuse_writes,
    a_disk_that_lies_is_found_out_by_a_cut,
    bits_are_turned_over_below_whoever_reads,
    the_socket_does_what_the_library_does,
];

fn a_sync_fails_once_or_for_ever() {
    let disk = Disk::default();
    disk.make("a", b"old");
    let file = open(&disk.at("a"), 0);
    disk.power().set_faults(|faults| faults.sync_errors = SyncErrors::Once);
    file.write_all_at(b"new", 0).expect("written");
    assert_errno(file.sync_data(), libc::EIO);
    file.sync_data().expect("once");
    disk.power().set_faults(|faults| faults.sync_errors = SyncErrors::Forever);
    let directory = fs::File::open(disk.at("")).expect("opened");
    for _ in 0..3 {
        assert_errno(file.sync_data(), libc::EIO);
        assert_errno(directory.sync_all(), libc::EIO);
    }
    assert_eq!(disk.power().counters().failed_syncs, 7);
}

fn a_sync_takes_as_long_as_it_is_told_to() {
    const DELAY: Duration = Duration::from_millis(100);
    let disk = Disk::default();
    let file = open(&disk.at("a"), 0);
    disk.power().set_faults(|faults| faults.sync_delay = DELAY);
    let began = Instant::now();
    file.write_all_at(b"new", 0).expect("writes are as quick as ever");
    file.sync_data().expect("synced");
    assert!(began.elapsed() >= DELAY, "{:?}", began.elapsed());
}

fn a_sync_hangs_until_it_is_released_or_the_power_goes() {
    let disk = Disk::default();
    disk.make("a", b"old");
    let hang = || {
        disk.power().set_faults(|faults| faults.is_hung = true);
        let file = open(&disk.at("a"), 0);
        file.write_all_at(b"new", 0).expect("written");
        let (done, answer) = mpsc::channel();
        thread::spawn(move || done.send(file.sync_data().map_err(|error| error.raw_os_error())));
        assert_eq!(answer.recv_timeout(Duration::from_millis(200)), Err(RecvTimeoutError::Timeout));
        answer
    };
    let answer = hang();
    disk.power().set_faults(|faults| faults.is_hung = false);
    assert_eq!(answer.recv(), Ok(Ok(())));
    let answer = hang();
    disk.power().cut(Cut::new(Tail::Clean, 0));
    assert_eq!(answer.recv(), Ok(Err(Some(libc::EIO))));
}

fn a_full_and_a_read_only_disk_refuse_writes() {
    let disk = Disk::default();
    disk.make("a", &[1; 8192]);
    let file = open(&disk.at("a"), 0);
    disk.power().set_faults(|faults| faults.full_at_bytes = Some(8192));
    assert_errno(file.write_at(b"x", 8192), libc::ENOSPC);
    file.write_all_at(b"x", 0).expect("needs no room");
    disk.power().set_faults(|faults| (faults.full_at_bytes, faults.is_read_only) = (None, true));
    assert_errno(file.write_at(b"x", 0), libc::EROFS);
    assert_errno(fs::remove_file(disk.at("a")), libc::EROFS);
    disk.power().set_faults(|faults| faults.is_read_only = false);
    file.write_all_at(b"x", 8192).expect("room again");
}

fn a_disk_that_lies_is_found_out_by_a_cut() {
    let disk = Disk::default();
    disk.make("a", b"old");
    disk.power().set_faults(|faults| faults.lies = true);
    disk.make("a", b"new");
    disk.make("b", b"new");
    disk.cut(Tail::Clean, 0);
    assert_eq!((disk.read("a"), disk.names()), (b"old".to_vec(), vec!["a".to_string()]));
}

fn bits_are_turned_over_below_whoever_reads() {
    let disk = Disk::default();
    disk.make("a", b"abc");
    let file = open(&disk.at("a"), 0);
    disk.power().flip("a".as_ref(), 1, 1).expect("flipped");
    let mut back = [0; 3];
    file.read_exact_at(&mut back, 0).expect("read");
    assert_eq!(&back, b"acc");
    disk.power().chop("a".as_ref(), 1).expect("chopped");
    disk.cut(Tail::Clean, 0);
    assert_eq!(disk.read("a"), b"a");
}

fn the_socket_does_what_the_library_does() {
    let disk = Disk::default();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let socket = dir.path().join("control");
    let (stopped, stops) = mpsc::channel();
    let stop = move || stopped.send(()).expect("somebody listens");
    control::listen(&socket, disk.power().clone(), stop).expect("listens");
    let say = |command: &str| control::say(&socket, command).expect("somebody listens");
    disk.make("a", b"old");
    fs::write(disk.at("a"), b"new!").expect("written");
    assert_eq!(say("cut clean 7 page"), Ok("lost-bytes=4 undone-names=0".into()));
    assert!(say("status").is_ok_and(|said| said.starts_with("power=off ") && said.contains(" cuts=1 ")));
    assert_errno(fs::read(disk.at("a")), libc::EIO);
    assert_eq!(say("on"), Ok(String::new()));
    assert_eq!(disk.read("a"), b"old");
    assert_eq!(say("flip a 0"), Ok(String::new()));
    assert_eq!(disk.read("a"), b"nld");
    let faults = ["fsync-error once", "fsync-delay 5", "hang on", "lie on", "read-only on", "full 4096"].map(say);
    let last = "fsync-error=once fsync-delay-ms=5 hang=on lie=on read-only=on full=4096";
    assert_eq!(faults.last(), Some(&Ok(last.to_string())));
    for wrong in ["cut", "cut neatly", "cut torn x", "hang perhaps", "flip b 0", "full of it", "fsync-error twice", ""]
    {
        assert!(say(wrong).is_err(), "{wrong}");
    }
    assert!(say("cut neatly").is_err_and(|why| why.contains("\"neatly\"")));
    assert_eq!(say("stop"), Ok(String::new()));
    stops.recv().expect("told to stop");
}
