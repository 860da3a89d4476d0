//! Power, limits and faults.

use super::*;
use crate::{
    fate::{Tail, Unit},
    faults::SyncErrors,
};

const OWNER: Owner = Owner { mode: 0o644, uid: 0, gid: 0 };

fn disk(options: Options) -> Disk {
    Disk::new(options, OWNER, SystemTime::UNIX_EPOCH)
}

fn open(disk: &mut Disk, name: &str) -> Handle {
    disk.create(ROOT, name.as_ref(), OWNER).expect("made").1
}

fn read(disk: &mut Disk, name: &str) -> Result<Vec<u8>, Refusal> {
    let ino = disk.lookup(ROOT, name.as_ref())?.ino;
    let handle = disk.open(ino)?;
    let bytes = disk.read(handle, 0, u64::MAX);
    disk.close(handle);
    bytes
}

fn sync_all(disk: &mut Disk, handle: Handle) {
    disk.sync(Target::File(handle)).expect("synced");
    disk.sync(Target::Directory(ROOT)).expect("synced");
}

const CLEAN: Cut = Cut { tail: Tail::Clean, seed: 0, unit: None };

#[test]
fn without_power_nothing_works_and_handles_of_before_never_again() {
    let mut disk = disk(Options::default());
    let handle = open(&mut disk, "a");
    disk.write(handle, 0, b"abc").expect("written");
    sync_all(&mut disk, handle);
    disk.cut(CLEAN);
    assert_eq!(disk.cut(CLEAN), Loss::default(), "it is off");
    assert_eq!(read(&mut disk, "a"), Err(Refusal::Io));
    assert_eq!(disk.space(), Err(Refusal::Io));
    disk.power_on();
    assert_eq!(read(&mut disk, "a"), Ok(b"abc".to_vec()));
    assert_eq!(disk.write(handle, 0, b"x"), Err(Refusal::Io));
    assert_eq!(disk.sync(Target::File(handle)), Err(Refusal::Io));
    assert_eq!(disk.attributes(Ino(2), Some(handle)), Err(Refusal::Io));
    disk.close(handle);
    assert_eq!((disk.counters().cuts, disk.counters().file_syncs), (1, 1));
}

#[test]
fn a_disk_that_lies_loses_what_it_said_was_synced() {
    let mut disk = disk(Options::default());
    let handle = open(&mut disk, "a");
    disk.write(handle, 0, b"true").expect("written");
    sync_all(&mut disk, handle);
    disk.faults.lies = true;
    disk.write(handle, 0, b"lies").expect("written");
    sync_all(&mut disk, handle);
    disk.cut(CLEAN);
    disk.power_on();
    assert_eq!(read(&mut disk, "a"), Ok(b"true".to_vec()));
}

/// Both views count, so what was synced and overwritten cannot grow without bound.
#[test]
fn a_full_disk_refuses_and_keeps_what_it_has() {
    let pages = |n: u64| n * PAGE_BYTES;
    let mut disk = disk(Options { memory_bytes_max: pages(20), ..Options::default() });
    let handle = open(&mut disk, "a");
    disk.write(handle, 0, &[1; 10 * PAGE_BYTES as usize]).expect("half of the memory");
    assert_eq!(disk.write(handle, pages(10), b"x"), Err(Refusal::NoSpace));
    sync_all(&mut disk, handle);
    disk.write(handle, 0, &[2; 10 * PAGE_BYTES as usize]).expect("both views");
    assert_eq!((disk.memory_bytes(), disk.space().map(|space| space.free_bytes)), (pages(20), Ok(0)));
    disk.change(Ino(2), None, Changes { size: Some(0), ..Changes::default() }).expect("cut off");
    assert_eq!(disk.write(handle, 0, &[3; 11 * PAGE_BYTES as usize]), Err(Refusal::NoSpace));
    disk.write(handle, 0, &[3; 10 * PAGE_BYTES as usize]).expect("room again");
    disk.faults.full_at_bytes = Some(pages(10));
    assert_eq!(disk.write(handle, pages(10), b"x"), Err(Refusal::NoSpace));
    disk.write(handle, 5, b"in place").expect("no more room is needed");
    disk.cut(CLEAN);
    disk.power_on();
    assert_eq!(read(&mut disk, "a"), Ok(vec![1; 10 * PAGE_BYTES as usize]));
}

#[test]
fn a_read_only_disk_takes_syncs_and_no_changes() {
    let mut disk = disk(Options::default());
    let handle = open(&mut disk, "a");
    disk.faults.is_read_only = true;
    assert_eq!(disk.write(handle, 0, b"x"), Err(Refusal::ReadOnly));
    assert_eq!(disk.unlink(ROOT, "a".as_ref()), Err(Refusal::ReadOnly));
    assert_eq!(disk.create(ROOT, "b".as_ref(), OWNER).map(drop), Err(Refusal::ReadOnly));
    assert_eq!(disk.sync_fate(Target::File(handle)), Ok(SyncFate::Now));
}

#[test]
fn a_failed_sync_is_counted_and_syncs_nothing() {
    let mut disk = disk(Options::default());
    let handle = open(&mut disk, "a");
    disk.faults.sync_errors = SyncErrors::Once;
    assert_eq!(disk.sync_fate(Target::File(handle)), Ok(SyncFate::Fails));
    assert_eq!((disk.counters().failed_syncs, disk.counters().file_syncs), (1, 0));
}

#[test]
fn preallocated_room_reads_as_zeros_and_a_punched_hole_too() {
    let mut disk = disk(Options::default());
    let handle = open(&mut disk, "a");
    disk.allocate(handle, 0, 10, false, true).expect("grown");
    disk.allocate(handle, 0, 1 << 40, false, false).expect("kept its size");
    disk.write(handle, 0, b"0123456789").expect("written");
    disk.allocate(handle, 2, 3, true, false).expect("punched");
    disk.allocate(handle, 9, 3, true, true).expect("zeroed");
    assert_eq!(disk.read(handle, 0, 100), Ok(b"01\0\0\x005678\0\0\0".to_vec()));
    assert_eq!(disk.allocate(handle, u64::MAX, 2, false, true), Err(Refusal::TooLarge));
    assert_eq!(disk.write(handle, FILE_BYTES_MAX, b"x"), Err(Refusal::TooLarge));
}

#[test]
fn damage_is_named_by_a_path() {
    let mut disk = disk(Options::default());
    let dir = disk.make_directory(ROOT, "d".as_ref(), OWNER).expect("made").ino;
    let handle = disk.create(dir, "a".as_ref(), OWNER).expect("made").1;
    disk.write(handle, 0, b"abc").expect("written");
    disk.flip(Path::new("/d/a"), 1, 1).expect("flipped");
    disk.chop(Path::new("d/a"), 2).expect("chopped");
    assert_eq!(disk.read(handle, 0, 9), Ok(b"ac".to_vec()));
    assert_eq!(disk.flip(Path::new("d/a"), 2, 1), Err(Refusal::Invalid));
    assert_eq!(disk.flip(Path::new("d/b"), 2, 1), Err(Refusal::NotFound));
}

/// Two disks to which the same was done differ in nothing after the same cut.
#[test]
fn equal_cuts_of_equal_disks_leave_equal_disks() {
    let left = |seed| {
        let mut disk = disk(Options::default());
        for name in ["a", "b", "c", "d"] {
            let handle = open(&mut disk, name);
            disk.write(handle, 0, &[7; 20_000]).expect("written");
        }
        disk.cut(Cut { tail: Tail::Garbage, seed, unit: Some(Unit::Sector) });
        disk.power_on();
        ["a", "b", "c", "d"].map(|name| read(&mut disk, name))
    };
    assert_eq!(left(3), left(3));
    assert!((0..20).any(|seed| left(seed) != left(3)));
}
