//! What survives a cut, and what does not.

use std::{collections::BTreeSet, fs, io::Write, os::unix::fs::FileExt};

use powerfs::{Cut, Options, Tail, cut_all};

use crate::{Disk, Test, assert_errno, open, raw, sync, tests};

pub const TESTS: &[Test] = tests![
    synced_then_overwritten_in_place_shows_the_old_bytes,
    a_rename_without_a_sync_of_the_directory_is_undone,
    a_synced_file_whose_name_was_not_synced_is_gone,
    a_directory_is_there_once_the_one_above_it_was_synced,
    sync_file_range_is_no_sync,
    what_was_written_with_o_direct_and_fdatasync_survives,
    each_write_with_o_dsync_survives,
    close_is_no_sync,
    appended_bytes_survive_in_part_by_the_kind_of_the_cut,
    a_file_cut_off_without_a_sync_is_whole_again,
    a_cut_voids_every_handle_also_when_the_power_is_back,
    several_disks_are_cut_at_one_moment,
];

fn synced_then_overwritten_in_place_shows_the_old_bytes() {
    let disk = Disk::default();
    disk.make("a", &[b'o'; 10_000]);
    let file = open(&disk.at("a"), 0);
    file.write_all_at(&[b'n'; 5_000], 2_000).expect("written");
    assert_eq!(disk.read("a")[2_000], b'n', "everybody reads it at once");
    disk.cut(Tail::Clean, 0);
    assert_eq!(disk.read("a"), [b'o'; 10_000]);
    let file = open(&disk.at("a"), 0);
    file.write_all_at(&[b'n'; 5_000], 2_000).expect("written");
    file.sync_data().expect("synced");
    disk.cut(Tail::Clean, 0);
    assert_eq!(disk.read("a")[2_000..7_000], [b'n'; 5_000]);
}

fn a_rename_without_a_sync_of_the_directory_is_undone() {
    let disk = Disk::default();
    disk.make("current", b"old");
    disk.make("new", b"new");
    fs::rename(disk.at("new"), disk.at("current")).expect("renamed");
    assert_eq!((disk.read("current"), disk.names()), (b"new".to_vec(), vec!["current".to_string()]));
    disk.cut(Tail::Clean, 0);
    assert_eq!((disk.read("current"), disk.read("new")), (b"old".to_vec(), b"new".to_vec()));
    fs::rename(disk.at("new"), disk.at("current")).expect("renamed");
    disk.sync_names();
    disk.cut(Tail::Clean, 0);
    assert_eq!((disk.read("current"), disk.names()), (b"new".to_vec(), vec!["current".to_string()]));
}

fn a_synced_file_whose_name_was_not_synced_is_gone() {
    for kind_names in [false, true] {
        let disk = Disk::with(Options { kind_names, ..Options::default() });
        fs::write(disk.at("a"), b"precious").expect("written");
        sync(&disk.at("a"));
        disk.cut(Tail::Clean, 0);
        let expected: &[&str] = if kind_names { &["a"] } else { &[] };
        assert_eq!(disk.names(), expected);
    }
}

fn a_directory_is_there_once_the_one_above_it_was_synced() {
    let disk = Disk::default();
    let make = || {
        fs::create_dir(disk.at("d")).expect("made");
        fs::write(disk.at("d/a"), b"precious").expect("written");
        sync(&disk.at("d/a"));
        sync(&disk.at("d"));
    };
    make();
    disk.cut(Tail::Clean, 0);
    assert!(disk.names().is_empty(), "the directory above was not synced");
    make();
    disk.sync_names();
    disk.cut(Tail::Clean, 0);
    assert_eq!(disk.read("d/a"), b"precious");
}

fn sync_file_range_is_no_sync() {
    let disk = Disk::default();
    disk.make("a", b"old");
    let file = open(&disk.at("a"), 0);
    file.write_all_at(b"new", 0).expect("written");
    raw::sync_file_range(&file).expect("it says that all went well");
    disk.cut(Tail::Clean, 0);
    assert_eq!(disk.read("a"), b"old");
}

fn what_was_written_with_o_direct_and_fdatasync_survives() {
    const PAGE: usize = 4096;
    let disk = Disk::default();
    disk.make("a", b"");
    let file = open(&disk.at("a"), libc::O_DIRECT);
    // Aligned, as other file systems ask.
    let room = vec![7u8; 3 * PAGE];
    let page = &room[room.as_ptr().align_offset(PAGE)..][..PAGE];
    file.write_all_at(page, 0).expect("written");
    file.sync_data().expect("synced");
    file.write_all_at(page, PAGE as u64).expect("written");
    let mut back = vec![0u8; 3 * PAGE];
    let start = back.as_ptr().align_offset(PAGE);
    file.read_exact_at(&mut back[start..start + PAGE], PAGE as u64).expect("read");
    assert_eq!(back[start..start + PAGE], *page);
    disk.cut(Tail::Clean, 0);
    assert_eq!(disk.read("a"), [7; PAGE], "the first page, and nothing of the second");
}

fn each_write_with_o_dsync_survives() {
    for flags in [libc::O_DSYNC, libc::O_SYNC] {
        let disk = Disk::default();
        disk.make("a", b"");
        open(&disk.at("a"), flags).write_all_at(b"synced", 0).expect("written");
        disk.cut(Tail::Clean, 0);
        assert_eq!(disk.read("a"), b"synced");
    }
}

fn close_is_no_sync() {
    let disk = Disk::default();
    disk.make("a", b"old");
    fs::write(disk.at("a"), b"much newer").expect("written and closed");
    disk.cut(Tail::Clean, 0);
    assert_eq!(disk.read("a"), b"old");
}

fn appended_bytes_survive_in_part_by_the_kind_of_the_cut() {
    for tail in [Tail::Torn, Tail::Zeroed, Tail::Garbage] {
        let (mut sizes, mut others) = (BTreeSet::new(), BTreeSet::new());
        for seed in 0..20 {
            let disk = Disk::default();
            disk.make("log", &[b's'; 700]);
            let mut log = fs::OpenOptions::new().append(true).open(disk.at("log")).expect("opened");
            log.write_all(&[b'u'; 9_000]).expect("written");
            disk.cut(tail, seed);
            let left = disk.read("log");
            assert_eq!(left[..700], [b's'; 700], "{tail}, seed {seed}: what was synced");
            sizes.insert(left.len());
            others.extend(left[700..].iter().copied().filter(|byte| *byte != b'u'));
        }
        assert!(sizes.len() > 1 && sizes.last() <= Some(&9_700), "{tail}: {sizes:?}");
        match tail {
            Tail::Clean | Tail::Torn => assert!(others.is_empty(), "{tail}: {others:?}"),
            Tail::Zeroed => assert_eq!(others, BTreeSet::from([0])),
            Tail::Garbage => assert!(others.len() > 100, "{tail}: {} other bytes", others.len()),
        }
    }
}

fn a_file_cut_off_without_a_sync_is_whole_again() {
    let disk = Disk::default();
    disk.make("a", b"0123456789");
    open(&disk.at("a"), 0).set_len(4).expect("cut off");
    assert_eq!(disk.read("a"), b"0123");
    disk.cut(Tail::Clean, 0);
    assert_eq!(disk.read("a"), b"0123456789");
}

fn a_cut_voids_every_handle_also_when_the_power_is_back() {
    let disk = Disk::default();
    disk.make("a", b"old");
    let file = open(&disk.at("a"), 0);
    let fails = || {
        assert_errno(file.write_at(b"new", 0), libc::EIO);
        assert_errno(file.read_at(&mut [0; 3], 0), libc::EIO);
        assert_errno(file.sync_all(), libc::EIO);
    };
    disk.power().cut(Cut::new(Tail::Clean, 0));
    fails();
    assert_errno(fs::read(disk.at("a")), libc::EIO);
    assert_errno(fs::read_dir(disk.at("")), libc::EIO);
    disk.power().on();
    fails();
    assert_eq!(disk.read("a"), b"old");
}

fn several_disks_are_cut_at_one_moment() {
    let disks = [Disk::default(), Disk::default()];
    disks.iter().for_each(|disk| disk.make("a", b"old"));
    disks.iter().for_each(|disk| fs::write(disk.at("a"), b"new").expect("written"));
    let switches: Vec<_> = disks.iter().map(|disk| disk.power().clone()).collect();
    let loss = cut_all(&switches, Cut::new(Tail::Clean, 0));
    // The bytes that were cut off before the new ones were written are the same ones.
    assert_eq!((loss.bytes, loss.names), (6, 0));
    switches.iter().for_each(powerfs::Power::on);
    assert!(disks.iter().all(|disk| disk.read("a") == b"old"));
}
