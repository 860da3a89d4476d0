//! An ordinary file system, as far as RocksDB and brokers need one.

use std::{
    fs, io,
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, MetadataExt},
    },
    time::Instant,
};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, FcntlArg, Flock, FlockArg, RenameFlags, fallocate, fcntl, renameat2},
    sys::statvfs::statvfs,
};
use powerfs::Options;

use crate::{Disk, Test, assert_errno, open, raw, tests};

pub const TESTS: &[Test] = tests![
    files_and_directories_do_what_they_do_elsewhere,
    a_rename_refuses_or_exchanges,
    locks_are_kept,
    preallocated_files_keep_or_get_their_size,
    a_directory_can_be_emptied_while_it_is_listed,
    a_shared_writable_mapping_is_refused,
    extended_attributes_are_refused,
    the_size_of_the_disk_is_told,
    it_carries_three_brokers,
];

fn files_and_directories_do_what_they_do_elsewhere() {
    let disk = Disk::default();
    fs::create_dir_all(disk.at("a/b")).expect("made");
    fs::write(disk.at("a/b/x"), b"hello").expect("written");
    fs::hard_link(disk.at("a/b/x"), disk.at("y")).expect("linked");
    assert_eq!(fs::metadata(disk.at("y")).expect("there").nlink(), 2);
    fs::rename(disk.at("a/b"), disk.at("c")).expect("renamed");
    fs::remove_file(disk.at("c/x")).expect("removed");
    assert_eq!((disk.read("y"), disk.names()), (b"hello".to_vec(), ["a", "c", "y"].map(String::from).to_vec()));
    assert_errno(fs::remove_dir(disk.at("y")), libc::ENOTDIR);
    assert_errno(fs::create_dir(disk.at("c")), libc::EEXIST);
    assert_errno(fs::read(disk.at("none")), libc::ENOENT);
    assert_errno(std::os::unix::fs::symlink("y", disk.at("z")), libc::EPERM);
    // What is open stays readable without a name.
    let file = open(&disk.at("y"), 0);
    fs::remove_file(disk.at("y")).expect("removed");
    let mut back = [0; 5];
    file.read_exact_at(&mut back, 0).expect("read");
    assert_eq!(&back, b"hello");
    fs::remove_dir_all(disk.at("a")).expect("removed");
    assert_eq!(disk.names(), ["c"]);
}

fn a_rename_refuses_or_exchanges() {
    let disk = Disk::default();
    disk.make("a", b"a");
    disk.make("b", b"b");
    let rename = |flags| renameat2(nix::fcntl::AT_FDCWD, &disk.at("a"), nix::fcntl::AT_FDCWD, &disk.at("b"), flags);
    assert_eq!(rename(RenameFlags::RENAME_NOREPLACE), Err(Errno::EEXIST));
    rename(RenameFlags::RENAME_EXCHANGE).expect("exchanged");
    assert_eq!((disk.read("a"), disk.read("b")), (b"b".to_vec(), b"a".to_vec()));
}

/// RocksDB's LOCK is one of fcntl(2).
fn locks_are_kept() {
    let disk = Disk::default();
    let [first, second] = [open(&disk.at("LOCK"), 0), open(&disk.at("LOCK"), 0)];
    let lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&first, FcntlArg::F_OFD_SETLK(&lock)).expect("locked");
    assert_eq!(fcntl(&second, FcntlArg::F_OFD_SETLK(&lock)), Err(Errno::EAGAIN));
    drop(first);
    fcntl(&second, FcntlArg::F_OFD_SETLK(&lock)).expect("free again");
    let [first, second] = [open(&disk.at("l"), 0), open(&disk.at("l"), 0)];
    let held = Flock::lock(first, FlockArg::LockExclusiveNonblock).expect("locked");
    assert!(Flock::lock(second, FlockArg::LockExclusiveNonblock).is_err_and(|(_, error)| error == Errno::EAGAIN));
    drop(held);
}

fn preallocated_files_keep_or_get_their_size() {
    let disk = Disk::default();
    let file = open(&disk.at("a"), 0);
    file.write_all_at(b"0123456789", 0).expect("written");
    fallocate(&file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, 1 << 30).expect("reserved");
    assert_eq!(file.metadata().expect("there").len(), 10);
    fallocate(&file, FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE, 2, 3)
        .expect("punched");
    fallocate(&file, FallocateFlags::empty(), 0, 12).expect("grown");
    assert_eq!(disk.read("a"), b"01\0\0\x0056789\0\0");
    assert_eq!(fallocate(&file, FallocateFlags::FALLOC_FL_COLLAPSE_RANGE, 0, 4096), Err(Errno::EOPNOTSUPP));
    // RocksDB gives back what it did not use, if the blocks say that there is something.
    assert_eq!(file.metadata().expect("there").blocks(), 8);
}

fn a_directory_can_be_emptied_while_it_is_listed() {
    let disk = Disk::default();
    fs::create_dir(disk.at("d")).expect("made");
    for n in 0..3_000 {
        fs::write(disk.at(&format!("d/{n}")), b"").expect("written");
    }
    assert_eq!(fs::read_dir(disk.at("d")).expect("listed").count(), 3_000);
    for entry in fs::read_dir(disk.at("d")).expect("listed") {
        fs::remove_file(entry.expect("an entry").path()).expect("removed");
    }
    fs::remove_dir(disk.at("d")).expect("none was passed over");
}

/// Its pages would be the kernel's until it writes them back, and would survive a cut there.
fn a_shared_writable_mapping_is_refused() {
    let disk = Disk::default();
    disk.make("a", &[1; 4096]);
    let file = open(&disk.at("a"), 0);
    assert_errno(raw::map(&file, libc::MAP_SHARED), libc::ENODEV);
    raw::map(&file, libc::MAP_PRIVATE).expect("nobody else sees what is written to it");
}

fn extended_attributes_are_refused() {
    let disk = Disk::default();
    disk.make("a", b"");
    assert_errno(raw::set_attribute(&open(&disk.at("a"), 0)), libc::EOPNOTSUPP);
}

fn the_size_of_the_disk_is_told() {
    let disk = Disk::with(Options { memory_bytes_max: 64 << 20, ..Options::default() });
    let free = || {
        let told = statvfs(&disk.at("")).expect("told");
        (told.blocks() * told.fragment_size(), told.blocks_available() * told.fragment_size())
    };
    assert_eq!(free(), (32 << 20, 32 << 20));
    disk.make("a", &[1; 4 << 20]);
    assert_eq!(free(), (32 << 20, 28 << 20));
}

/// Prints what it carries; how fast is a matter of the machine and the build.
fn it_carries_three_brokers() {
    const BYTES: usize = 64 << 20;
    let disks = [Disk::default(), Disk::default(), Disk::default()];
    let began = Instant::now();
    std::thread::scope(|scope| {
        for disk in &disks {
            scope.spawn(|| write_synced(disk, BYTES, 256 << 10).expect("written"));
        }
    });
    let took = began.elapsed();
    let syncs: u64 = disks.iter().map(|disk| disk.power().counters().file_syncs).sum();
    let rate = (3 * BYTES) as f64 / 1e6 / took.as_secs_f64();
    println!("  three disks at once: {rate:.0} MB/s in writes of 256 KiB, each synced ({syncs} syncs, {took:.1?})");
    assert!(rate > 10.0, "{rate:.1} MB/s");
}

fn write_synced(disk: &Disk, bytes: usize, each: usize) -> io::Result<()> {
    let file = open(&disk.at("log"), 0);
    assert!(file.as_raw_fd() > 2);
    let block = vec![1; each];
    for at in (0..bytes).step_by(each) {
        file.write_all_at(&block, at as u64)?;
        file.sync_data()?;
    }
    Ok(())
}
