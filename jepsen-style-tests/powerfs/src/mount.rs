//! The disk as the kernel sees it: each call of FUSE is one call of [`Disk`], and its answer.
//!
//! No write is hidden from us by the kernel's caches: all files are opened with `FOPEN_DIRECT_IO` and the writeback cache is
//! not asked for, so `write(2)` returns after [`Disk::write`] did. A shared writable mapping would hide them, so it is refused by
//! the kernel (`ENODEV`). Names and attributes are asked for each time, so that nothing of before a cut is remembered.
//! Locks are the kernel's own, links are hard ones only, and there are no extended attributes.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::{Duration, SystemTime},
};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use crate::{
    content::PAGE_BYTES,
    disk::{Attributes, Changes, Disk, Handle, Target},
    error::Refusal,
    faults::SyncFate,
    tree::{INODES_MAX, Ino, NAME_BYTES_MAX, Onto, Owner},
};

/// The kernel asks again each time.
const NEVER_REMEMBERED: Duration = Duration::ZERO;
/// No inode's number is used twice, so one generation does.
const GENERATION: Generation = Generation(0);

/// What the kernel's calls and whoever holds the switch share.
pub(crate) struct Shared(Mutex<State>);

pub(crate) struct State {
    pub disk: Disk,
    /// Syncs that wait until the disk hangs no more.
    held: Vec<(Target, Answer)>,
    /// What each open directory lists: its names when it was opened or rewound, so that they may change meanwhile.
    listings: BTreeMap<u64, Vec<(OsString, Ino, bool)>>,
    next_listing: u64,
}

/// Who waits for a sync.
pub(crate) enum Answer {
    Sync(ReplyEmpty),
    /// A write through a handle whose writes are synced each.
    Write(ReplyWrite, u32),
}

impl Answer {
    pub fn give(self, done: Result<(), Refusal>) {
        match (self, done) {
            (Answer::Sync(reply), Ok(())) => reply.ok(),
            (Answer::Sync(reply), Err(refusal)) => reply.error(errno(refusal)),
            (Answer::Write(reply, bytes), Ok(())) => reply.written(bytes),
            (Answer::Write(reply, _), Err(refusal)) => reply.error(errno(refusal)),
        }
    }
}

impl Shared {
    pub fn new(disk: Disk) -> Shared {
        Shared(Mutex::new(State { disk, held: vec![], listings: BTreeMap::new(), next_listing: 1 }))
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody panics with the disk")
    }

    fn complete(&self, target: Target, answer: Answer) {
        let done = self.lock().disk.sync(target);
        answer.give(done);
    }

    /// The held syncs go on.
    pub fn release_held(&self) {
        let held = std::mem::take(&mut self.lock().held);
        held.into_iter().for_each(|(target, answer)| self.complete(target, answer));
    }
}

impl State {
    /// Handles of directories are void after a cut as those of files are, and whoever waits is told so.
    pub fn void_handles(&mut self) -> Vec<Answer> {
        self.listings.clear();
        self.held.drain(..).map(|(_, answer)| answer).collect()
    }

    fn list(&self, dir: Ino) -> Result<Vec<(OsString, Ino, bool)>, Refusal> {
        let dots = [(".".into(), dir, true), ("..".into(), self.disk.parent(dir)?, true)];
        let names = self.disk.names(dir)?.into_iter();
        Ok(dots.into_iter().chain(names.map(|(name, ino, is_directory)| (name.into(), ino, is_directory))).collect())
    }
}

/// What fuser calls.
pub(crate) struct Shell(pub Arc<Shared>);

impl Shell {
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.0.lock();
        state.disk.set_clock(SystemTime::now());
        state
    }

    fn sync(&self, target: Target, answer: Answer) {
        let mut state = self.state();
        match state.disk.sync_fate(target) {
            Ok(SyncFate::Now) => {
                let done = state.disk.sync(target);
                drop(state);
                answer.give(done);
            }
            Ok(SyncFate::Held) => state.held.push((target, answer)),
            Ok(SyncFate::After(delay)) => {
                let shared = self.0.clone();
                // Ends by itself: one for each process that waits for a sync.
                thread::spawn(move || {
                    thread::sleep(delay);
                    shared.complete(target, answer);
                });
            }
            Ok(SyncFate::Fails) => answer.give(Err(Refusal::Io)),
            Err(refusal) => answer.give(Err(refusal)),
        }
    }
}

fn errno(refusal: Refusal) -> Errno {
    Errno::from_i32(refusal.errno())
}

fn attr(of: &Attributes) -> FileAttr {
    FileAttr {
        ino: INodeNo(of.ino.0),
        size: of.size,
        blocks: of.blocks * (PAGE_BYTES / 512),
        atime: of.modified,
        mtime: of.modified,
        ctime: of.changed,
        crtime: of.changed,
        kind: kind(of.is_directory),
        perm: of.owner.mode,
        nlink: of.links,
        uid: of.owner.uid,
        gid: of.owner.gid,
        rdev: 0,
        blksize: PAGE_BYTES as u32,
        flags: 0,
    }
}

fn kind(is_directory: bool) -> FileType {
    if is_directory { FileType::Directory } else { FileType::RegularFile }
}

fn owner(request: &Request, mode: u32) -> Owner {
    Owner { mode: (mode & 0o7777) as u16, uid: request.uid(), gid: request.gid() }
}

fn entry(reply: ReplyEntry, found: Result<Attributes, Refusal>) {
    match found {
        Ok(found) => reply.entry(&NEVER_REMEMBERED, &attr(&found), GENERATION),
        Err(refusal) => reply.error(errno(refusal)),
    }
}

fn attributes(reply: ReplyAttr, found: Result<Attributes, Refusal>) {
    match found {
        Ok(found) => reply.attr(&NEVER_REMEMBERED, &attr(&found)),
        Err(refusal) => reply.error(errno(refusal)),
    }
}

fn empty(reply: ReplyEmpty, done: Result<(), Refusal>) {
    Answer::Sync(reply).give(done);
}

fn handle(from: FileHandle) -> Handle {
    Handle(from.0)
}

fn ino(from: INodeNo) -> Ino {
    Ino(from.0)
}

impl Filesystem for Shell {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // Of private mappings, which are read through the page cache: what changed since is read again. An old
        // kernel that cannot is none that we run on for its mappings.
        let _ = config.add_capabilities(InitFlags::FUSE_AUTO_INVAL_DATA);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        entry(reply, self.state().disk.lookup(ino(parent), name));
    }

    fn getattr(&self, _: &Request, of: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr) {
        attributes(reply, self.state().disk.attributes(ino(of), fh.map(handle)));
    }

    fn setattr(
        &self,
        _: &Request,
        of: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let modified = mtime.map(|time| match time {
            TimeOrNow::SpecificTime(time) => time,
            TimeOrNow::Now => SystemTime::now(),
        });
        let changes = Changes { mode: mode.map(|mode| (mode & 0o7777) as u16), uid, gid, size, modified };
        attributes(reply, self.state().disk.change(ino(of), fh.map(handle), changes));
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        if mode & libc::S_IFMT != libc::S_IFREG {
            return reply.error(Errno::EPERM);
        }
        let mut state = self.state();
        let created = state.disk.create(ino(parent), name, owner(request, mode));
        entry(
            reply,
            created.map(|(attributes, handle)| {
                state.disk.close(handle);
                attributes
            }),
        );
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _umask: u32, reply: ReplyEntry) {
        entry(reply, self.state().disk.make_directory(ino(parent), name, owner(request, mode)));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.state().disk.unlink(ino(parent), name));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.state().disk.remove_directory(ino(parent), name));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let onto = match flags {
            RenameFlags::RENAME_NOREPLACE => Onto::Refuse,
            RenameFlags::RENAME_EXCHANGE => Onto::Exchange,
            flags if flags.is_empty() => Onto::Replace,
            _ => return empty(reply, Err(Refusal::Invalid)),
        };
        empty(reply, self.state().disk.rename((ino(parent), name), (ino(newparent), newname), onto));
    }

    fn link(&self, _: &Request, of: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        entry(reply, self.state().disk.link(ino(of), ino(newparent), newname));
    }

    fn open(&self, _: &Request, of: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.state().disk.open(ino(of)) {
            Ok(opened) => reply.opened(FileHandle(opened.0), FopenFlags::FOPEN_DIRECT_IO),
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        match self.state().disk.create(ino(parent), name, owner(request, mode)) {
            Ok((made, opened)) => {
                let opened = FileHandle(opened.0);
                reply.created(&NEVER_REMEMBERED, &attr(&made), GENERATION, opened, FopenFlags::FOPEN_DIRECT_IO);
            }
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = self.state().disk.read(handle(fh), offset, u64::from(size));
        match read {
            Ok(bytes) => reply.data(&bytes),
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = self.state().disk.write(handle(fh), offset, data);
        let answer = Answer::Write(reply, data.len() as u32);
        // O_SYNC has this bit, too.
        if written.is_ok() && flags.0 & libc::O_DSYNC != 0 {
            self.sync(Target::File(handle(fh)), answer);
        } else {
            answer.give(written);
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // Nothing is kept back, and `close` promises nothing.
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.state().disk.close(handle(fh));
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        // What fdatasync may leave out, times and owners, is not told apart here.
        self.sync(Target::File(handle(fh)), Answer::Sync(reply));
    }

    fn opendir(&self, _: &Request, of: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let mut state = self.state();
        match state.list(ino(of)) {
            Ok(names) => {
                let listing = state.next_listing;
                state.next_listing += 1;
                state.listings.insert(listing, names);
                reply.opened(FileHandle(listing), FopenFlags::empty());
            }
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn readdir(&self, _: &Request, of: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let mut state = self.state();
        if !state.listings.contains_key(&fh.0) {
            return reply.error(Errno::EIO);
        }
        if offset == 0 {
            match state.list(ino(of)) {
                Ok(names) => drop(state.listings.insert(fh.0, names)),
                Err(refusal) => return reply.error(errno(refusal)),
            }
        }
        let names = state.listings.get(&fh.0).into_iter().flatten();
        for (next, (name, found, is_directory)) in (1u64..).zip(names).skip(offset as usize) {
            if reply.add(INodeNo(found.0), next, kind(*is_directory), name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(&self, _: &Request, _: INodeNo, fh: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.state().listings.remove(&fh.0);
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, of: INodeNo, fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        if !self.state().listings.contains_key(&fh.0) {
            return reply.error(Errno::EIO);
        }
        self.sync(Target::Directory(ino(of)), Answer::Sync(reply));
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        match self.state().disk.space() {
            Ok(space) => {
                let free = space.free_bytes / PAGE_BYTES;
                let (files, page) = (INODES_MAX as u64, PAGE_BYTES as u32);
                let total = space.total_bytes / PAGE_BYTES;
                reply.statfs(total, free, free, files, files - space.inodes, page, NAME_BYTES_MAX as u32, page);
            }
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        const KEEPS: i32 = libc::FALLOC_FL_KEEP_SIZE;
        const PUNCHES: i32 = libc::FALLOC_FL_PUNCH_HOLE | KEEPS;
        const ZEROES: i32 = libc::FALLOC_FL_ZERO_RANGE;
        const ZEROES_INSIDE: i32 = ZEROES | KEEPS;
        // What is only reserved takes no room: it reads as zeros.
        let (clears, grows) = match mode {
            0 => (false, true),
            KEEPS => (false, false),
            PUNCHES | ZEROES_INSIDE => (true, false),
            ZEROES => (true, true),
            _ => return empty(reply, Err(Refusal::Unsupported)),
        };
        empty(reply, self.state().disk.allocate(handle(fh), offset, length, clears, grows));
    }
}
