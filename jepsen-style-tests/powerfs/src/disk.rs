//! The disk: a tree with power or without, its limits, faults, open handles and counters. Still pure; `mount.rs`
//! shows it to the kernel.

use std::{collections::BTreeMap, ffi::OsStr, fmt, path::Path, time::SystemTime};

use crate::{
    content::{Footprint, PAGE_BYTES},
    error::Refusal,
    fate::{Cut, Dice},
    faults::{Faults, SyncFate, on_off},
    tree::{Ino, Kind, Loss, Onto, Owner, ROOT, Tree},
};

/// The largest file, as on other file systems.
pub const FILE_BYTES_MAX: u64 = i64::MAX as u64;

/// How a disk is made.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Memory for both views together; beyond it the disk is full. Half of it is the disk that `statfs` shows: the
    /// rest is for what was synced and is not there any more.
    pub memory_bytes_max: u64,
    /// Whether a sync of a file also makes its name durable, as on ext4.
    pub kind_names: bool,
    /// The faults to begin with.
    pub faults: Faults,
}

impl Default for Options {
    fn default() -> Options {
        Options { memory_bytes_max: 2 << 30, kind_names: false, faults: Faults::default() }
    }
}

/// What was done since the disk was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub writes: u64,
    pub written_bytes: u64,
    pub file_syncs: u64,
    pub directory_syncs: u64,
    pub failed_syncs: u64,
    pub cuts: u64,
    /// Of all cuts.
    pub lost: Loss,
}

/// A handle of an open file. None is given twice, so that one of before a cut is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Handle(pub u64);

/// What can be synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    File(Handle),
    Directory(Ino),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    pub ino: Ino,
    pub is_directory: bool,
    pub size: u64,
    /// Blocks of 4 KiB.
    pub blocks: u64,
    pub owner: Owner,
    pub links: u32,
    pub modified: SystemTime,
    pub changed: SystemTime,
}

/// Which attributes to change.
#[derive(Clone, Copy, Debug, Default)]
pub struct Changes {
    pub mode: Option<u16>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub modified: Option<SystemTime>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    pub total_bytes: u64,
    pub free_bytes: u64,
    pub inodes: u64,
}

#[derive(Debug)]
pub struct Disk {
    tree: Tree,
    is_powered: bool,
    handles: BTreeMap<Handle, Ino>,
    next_handle: u64,
    options: Options,
    pub faults: Faults,
    counters: Counters,
}

impl Disk {
    pub fn new(options: Options, owner: Owner, clock: SystemTime) -> Disk {
        Disk {
            tree: Tree::new(owner, options.kind_names, clock),
            is_powered: true,
            handles: BTreeMap::new(),
            next_handle: 1,
            faults: options.faults,
            options,
            counters: Counters::default(),
        }
    }

    /// The power goes, and with it what was not durable.
    pub fn cut(&mut self, cut: Cut) -> Loss {
        if !self.is_powered {
            return Loss::default();
        }
        self.is_powered = false;
        self.handles.clear();
        let loss = self.tree.lose(&mut Dice::of(cut));
        self.counters.cuts += 1;
        self.counters.lost.bytes += loss.bytes;
        self.counters.lost.names += loss.names;
        loss
    }

    pub fn power_on(&mut self) {
        self.is_powered = true;
    }

    pub fn is_powered(&self) -> bool {
        self.is_powered
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// What changes are stamped with from now on.
    pub fn set_clock(&mut self, clock: SystemTime) {
        self.tree.clock = clock;
    }

    fn alive(&self) -> Result<(), Refusal> {
        if self.is_powered { Ok(()) } else { Err(Refusal::Io) }
    }

    fn writable(&self) -> Result<(), Refusal> {
        self.alive()?;
        if self.faults.is_read_only { Err(Refusal::ReadOnly) } else { Ok(()) }
    }

    pub fn space(&self) -> Result<Space, Refusal> {
        self.alive()?;
        let used = self.tree.footprint().now * PAGE_BYTES;
        let total = self.options.memory_bytes_max / 2;
        let total = self.faults.full_at_bytes.map_or(total, |full| full.min(total));
        let memory_left = self.options.memory_bytes_max.saturating_sub(self.memory_bytes());
        let free_bytes = total.saturating_sub(used).min(memory_left);
        Ok(Space { total_bytes: total, free_bytes, inodes: self.tree.inodes() as u64 })
    }

    /// What both views take.
    pub fn memory_bytes(&self) -> u64 {
        let Footprint { now, kept } = self.tree.footprint();
        (now + kept) * PAGE_BYTES
    }

    pub fn lookup(&self, dir: Ino, name: &OsStr) -> Result<Attributes, Refusal> {
        self.alive()?;
        self.attributes_of(self.tree.lookup(dir, name)?)
    }

    pub fn attributes(&self, ino: Ino, handle: Option<Handle>) -> Result<Attributes, Refusal> {
        self.alive()?;
        handle.map_or(Ok(ino), |handle| self.file(handle))?;
        self.attributes_of(ino)
    }

    fn attributes_of(&self, ino: Ino) -> Result<Attributes, Refusal> {
        let node = self.tree.node(ino)?;
        let (is_directory, size, blocks) = match &node.kind {
            Kind::File(content) => (false, content.size(), content.footprint().now),
            Kind::Directory(_) => (true, PAGE_BYTES, 1),
        };
        let (owner, links) = (node.owner, if is_directory { 2 } else { node.links });
        Ok(Attributes { ino, is_directory, size, blocks, owner, links, modified: node.modified, changed: node.changed })
    }

    pub fn change(&mut self, ino: Ino, handle: Option<Handle>, to: Changes) -> Result<Attributes, Refusal> {
        self.writable()?;
        handle.map_or(Ok(ino), |handle| self.file(handle))?;
        if let Some(size) = to.size {
            self.resize(ino, size)?;
        }
        let clock = self.tree.clock;
        let node = self.tree.node_mut(ino)?;
        node.owner.mode = to.mode.unwrap_or(node.owner.mode);
        node.owner.uid = to.uid.unwrap_or(node.owner.uid);
        node.owner.gid = to.gid.unwrap_or(node.owner.gid);
        node.modified = to.modified.unwrap_or(node.modified);
        node.changed = clock;
        self.attributes_of(ino)
    }

    fn resize(&mut self, ino: Ino, size: u64) -> Result<(), Refusal> {
        if size > FILE_BYTES_MAX {
            return Err(Refusal::TooLarge);
        }
        let before = self.tree.content(ino)?.size();
        // Cutting a page in two keeps it aside.
        if size < before {
            self.make_room(ino, size, 1)?;
        }
        self.tree.change(ino, |content| content.resize(size))
    }

    /// The names of a directory, with what they lead to; `.` and `..` are not among them.
    pub fn names(&self, dir: Ino) -> Result<Vec<(&OsStr, Ino, bool)>, Refusal> {
        self.alive()?;
        let names = self.tree.directory(dir)?.now.iter();
        Ok(names.map(|(name, &ino)| (name.as_os_str(), ino, self.tree.directory(ino).is_ok())).collect())
    }

    pub fn parent(&self, dir: Ino) -> Result<Ino, Refusal> {
        self.alive()?;
        Ok(self.tree.directory(dir)?.parent)
    }

    pub fn make_directory(&mut self, dir: Ino, name: &OsStr, owner: Owner) -> Result<Attributes, Refusal> {
        self.writable()?;
        let ino = self.tree.create(dir, name, owner, true)?;
        self.attributes_of(ino)
    }

    pub fn create(&mut self, dir: Ino, name: &OsStr, owner: Owner) -> Result<(Attributes, Handle), Refusal> {
        self.writable()?;
        let ino = self.tree.create(dir, name, owner, false)?;
        Ok((self.attributes_of(ino)?, self.open(ino)?))
    }

    pub fn link(&mut self, ino: Ino, dir: Ino, name: &OsStr) -> Result<Attributes, Refusal> {
        self.writable()?;
        self.tree.link(ino, dir, name)?;
        self.attributes_of(ino)
    }

    pub fn unlink(&mut self, dir: Ino, name: &OsStr) -> Result<(), Refusal> {
        self.writable()?;
        self.tree.unlink(dir, name)
    }

    pub fn remove_directory(&mut self, dir: Ino, name: &OsStr) -> Result<(), Refusal> {
        self.writable()?;
        self.tree.remove_directory(dir, name)
    }

    pub fn rename(&mut self, from: (Ino, &OsStr), to: (Ino, &OsStr), onto: Onto) -> Result<(), Refusal> {
        self.writable()?;
        self.tree.rename(from, to, onto)
    }

    pub fn open(&mut self, ino: Ino) -> Result<Handle, Refusal> {
        self.alive()?;
        self.tree.content(ino)?;
        self.tree.hold(ino)?;
        let handle = Handle(self.next_handle);
        self.next_handle += 1;
        self.handles.insert(handle, ino);
        Ok(handle)
    }

    /// One of before a cut is closed already.
    pub fn close(&mut self, handle: Handle) {
        if let Some(ino) = self.handles.remove(&handle) {
            self.tree.release(ino);
        }
    }

    fn file(&self, handle: Handle) -> Result<Ino, Refusal> {
        self.alive()?;
        self.handles.get(&handle).copied().ok_or(Refusal::Io)
    }

    pub fn read(&self, handle: Handle, at: u64, bytes: u64) -> Result<Vec<u8>, Refusal> {
        Ok(self.tree.content(self.file(handle)?)?.read(at, bytes))
    }

    pub fn write(&mut self, handle: Handle, at: u64, bytes: &[u8]) -> Result<(), Refusal> {
        let ino = self.file(handle)?;
        self.writable()?;
        let len = bytes.len() as u64;
        if at.checked_add(len).is_none_or(|end| end > FILE_BYTES_MAX) {
            return Err(Refusal::TooLarge);
        }
        self.make_room(ino, at, len)?;
        self.tree.change(ino, |content| content.write(at, bytes))?;
        self.counters.writes += 1;
        self.counters.written_bytes += len;
        Ok(())
    }

    /// Makes a part zeros, which a hole is, and the file longer if it is to `grow`.
    pub fn allocate(&mut self, handle: Handle, at: u64, bytes: u64, clears: bool, grows: bool) -> Result<(), Refusal> {
        let ino = self.file(handle)?;
        self.writable()?;
        let end = at.checked_add(bytes).filter(|end| *end <= FILE_BYTES_MAX).ok_or(Refusal::TooLarge)?;
        if clears {
            self.make_room(ino, at, 1)?;
            self.make_room(ino, end, 1)?;
        }
        self.tree.change(ino, |content| {
            if clears {
                content.clear(at..end);
            }
            if grows && end > content.size() {
                content.resize(end);
            }
        })
    }

    fn make_room(&self, ino: Ino, at: u64, bytes: u64) -> Result<(), Refusal> {
        let growth = self.tree.content(ino)?.growth(at, bytes);
        let free = self.space()?.free_bytes;
        let memory_left = self.options.memory_bytes_max.saturating_sub(self.memory_bytes());
        let fits = growth.now * PAGE_BYTES <= free || growth.now == 0;
        if fits && (growth.now + growth.kept) * PAGE_BYTES <= memory_left { Ok(()) } else { Err(Refusal::NoSpace) }
    }

    /// Decides over a sync. What it says is then done with [`Disk::sync`], or not at all.
    pub fn sync_fate(&mut self, target: Target) -> Result<SyncFate, Refusal> {
        self.target(target)?;
        let fate = self.faults.sync_fate();
        self.counters.failed_syncs += u64::from(fate == SyncFate::Fails);
        Ok(fate)
    }

    fn target(&self, target: Target) -> Result<Ino, Refusal> {
        match target {
            Target::File(handle) => self.file(handle),
            Target::Directory(ino) => {
                self.alive()?;
                Ok(ino)
            }
        }
    }

    /// Makes durable what `target` is, unless the disk lies.
    pub fn sync(&mut self, target: Target) -> Result<(), Refusal> {
        let ino = self.target(target)?;
        let is_file = matches!(target, Target::File(_));
        self.counters.file_syncs += u64::from(is_file);
        self.counters.directory_syncs += u64::from(!is_file);
        match (self.faults.lies, is_file) {
            (true, _) => Ok(()),
            (false, true) => self.tree.sync_file(ino),
            (false, false) => self.tree.sync_directory(ino),
        }
    }

    /// The file at a path below the root.
    fn find(&self, path: &Path) -> Result<Ino, Refusal> {
        self.alive()?;
        let names = path.components().filter_map(|component| match component {
            std::path::Component::Normal(name) => Some(name),
            _ => None,
        });
        names.into_iter().try_fold(ROOT, |dir, name| self.tree.lookup(dir, name))
    }

    /// Turns the bits of `mask` over in one byte of a file, also in what was synced.
    pub fn flip(&mut self, path: &Path, at: u64, mask: u8) -> Result<(), Refusal> {
        let ino = self.find(path)?;
        if self.tree.change(ino, |content| content.flip(at, mask))? { Ok(()) } else { Err(Refusal::Invalid) }
    }

    /// Cuts the end of a file off, also of what was synced.
    pub fn chop(&mut self, path: &Path, bytes: u64) -> Result<(), Refusal> {
        let ino = self.find(path)?;
        if self.tree.change(ino, |content| content.chop(bytes))? { Ok(()) } else { Err(Refusal::Invalid) }
    }
}

/// One line for people and for programs.
impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counters { writes, written_bytes, file_syncs, directory_syncs, failed_syncs, cuts, lost } = self.counters;
        write!(
            f,
            "power={} {} writes={writes} written-bytes={written_bytes} fsyncs={file_syncs} \
             directory-fsyncs={directory_syncs} failed-fsyncs={failed_syncs} cuts={cuts} lost-bytes={} \
             undone-names={} unsynced-bytes={} pending-names={} memory-bytes={}",
            on_off(self.is_powered),
            self.faults,
            lost.bytes,
            lost.names,
            self.tree.unsynced_bytes(),
            self.tree.pending_names(),
            self.memory_bytes(),
        )
    }
}

#[cfg(test)]
mod tests;
