//! Files and directories in both views: as they are now, and as a power cut would leave them. Pure: no I/O, no clock, and
//! chance only as dice that are handed in.
//!
//! What is durable: a file's bytes and size once it is synced; a name once its directory is. So a file that was
//! created and synced is gone after a cut if nobody synced its directory. Modes, owners and times are what they are
//! now, always: nothing here asks whether they survive.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    time::SystemTime,
};

pub use crate::journal::Ino;
use crate::{
    content::{Content, Footprint},
    error::Refusal,
    fate::Dice,
    journal::{Change, Edit, Journal},
};

pub const ROOT: Ino = Ino(1);

/// More changes of names than this are not kept back: a real journal would have been written long before.
pub const PENDING_CHANGES_MAX: usize = 65_536;
/// Files and directories together.
pub const INODES_MAX: usize = 1_000_000;
/// As in other file systems.
pub const NAME_BYTES_MAX: usize = 255;

/// What is asked of a new file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    File(Content),
    Directory(Directory),
}

#[derive(Clone, Debug)]
pub(crate) struct Directory {
    /// Of the root it is the root.
    pub parent: Ino,
    pub now: BTreeMap<OsString, Ino>,
    pub synced: BTreeMap<OsString, Ino>,
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub kind: Kind,
    pub owner: Owner,
    pub modified: SystemTime,
    pub changed: SystemTime,
    /// Names that lead here now.
    pub links: u32,
    /// What else needs it: open handles, synced names, and changes that are not committed.
    pub holds: u32,
}

/// What a rename does with a name that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Onto {
    Replace,
    Refuse,
    Exchange,
}

/// What a cut took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Bytes that had been changed since they were synced, and that are not new after the cut; and all of files whose names
    /// are gone.
    pub bytes: u64,
    /// Changes of names that were not committed, and are undone.
    pub names: u64,
}

#[derive(Clone, Debug)]
pub struct Tree {
    nodes: BTreeMap<Ino, Node>,
    next: u64,
    journal: Journal,
    footprint: Footprint,
    /// Whether a sync of anything commits all changes of names before it, as ext4's one journal does.
    is_kind: bool,
    /// What changes are stamped with.
    pub clock: SystemTime,
}

impl Tree {
    pub fn new(owner: Owner, is_kind: bool, clock: SystemTime) -> Tree {
        let kind = Kind::Directory(Directory { parent: ROOT, now: BTreeMap::new(), synced: BTreeMap::new() });
        let root = Node { kind, owner, modified: clock, changed: clock, links: 1, holds: 1 };
        Tree {
            nodes: BTreeMap::from([(ROOT, root)]),
            next: ROOT.0 + 1,
            journal: Journal::default(),
            footprint: Footprint::default(),
            is_kind,
            clock,
        }
    }

    pub fn inodes(&self) -> usize {
        self.nodes.len()
    }

    /// The blocks of all files.
    pub fn footprint(&self) -> Footprint {
        self.footprint
    }

    pub fn pending_names(&self) -> usize {
        self.journal.len()
    }

    /// Bytes of all files that were changed since they were synced.
    pub fn unsynced_bytes(&self) -> u64 {
        let bytes = |node: &Node| match &node.kind {
            Kind::File(content) => content.unsynced_bytes(),
            Kind::Directory(_) => 0,
        };
        self.nodes.values().map(bytes).sum()
    }

    pub(crate) fn node(&self, ino: Ino) -> Result<&Node, Refusal> {
        self.nodes.get(&ino).ok_or(Refusal::NotFound)
    }

    pub(crate) fn node_mut(&mut self, ino: Ino) -> Result<&mut Node, Refusal> {
        self.nodes.get_mut(&ino).ok_or(Refusal::NotFound)
    }

    pub(crate) fn directory(&self, ino: Ino) -> Result<&Directory, Refusal> {
        match &self.node(ino)?.kind {
            Kind::Directory(directory) => Ok(directory),
            Kind::File(_) => Err(Refusal::NotDirectory),
        }
    }

    pub fn content(&self, ino: Ino) -> Result<&Content, Refusal> {
        match &self.node(ino)?.kind {
            Kind::File(content) => Ok(content),
            Kind::Directory(_) => Err(Refusal::IsDirectory),
        }
    }

    pub fn lookup(&self, dir: Ino, name: &OsStr) -> Result<Ino, Refusal> {
        self.directory(dir)?.now.get(name).copied().ok_or(Refusal::NotFound)
    }

    /// Changes a file's bytes; every change goes through here, so that all blocks are counted.
    pub fn change<T>(&mut self, ino: Ino, change: impl FnOnce(&mut Content) -> T) -> Result<T, Refusal> {
        let clock = self.clock;
        let node = self.nodes.get_mut(&ino).ok_or(Refusal::NotFound)?;
        let Kind::File(content) = &mut node.kind else { return Err(Refusal::IsDirectory) };
        let before = content.footprint();
        let done = change(content);
        let after = content.footprint();
        (node.modified, node.changed) = (clock, clock);
        self.footprint.now = self.footprint.now - before.now + after.now;
        self.footprint.kept = self.footprint.kept - before.kept + after.kept;
        Ok(done)
    }

    /// Makes a file's bytes durable; in the kind model also all names before.
    pub fn sync_file(&mut self, ino: Ino) -> Result<(), Refusal> {
        let node = self.nodes.get_mut(&ino).ok_or(Refusal::NotFound)?;
        let Kind::File(content) = &mut node.kind else { return Err(Refusal::IsDirectory) };
        let before = content.footprint();
        content.sync();
        let after = content.footprint();
        self.footprint.now = self.footprint.now - before.now + after.now;
        self.footprint.kept = self.footprint.kept - before.kept + after.kept;
        if self.is_kind {
            self.commit_oldest(usize::MAX);
        }
        Ok(())
    }

    /// Makes a directory's names durable.
    pub fn sync_directory(&mut self, ino: Ino) -> Result<(), Refusal> {
        self.directory(ino)?;
        if self.is_kind {
            self.commit_oldest(usize::MAX);
        } else {
            let committed = self.journal.commit(ino);
            self.commit(committed);
        }
        Ok(())
    }

    fn commit_oldest(&mut self, count: usize) {
        let committed = self.journal.commit_oldest(count);
        self.commit(committed);
    }

    fn commit(&mut self, changes: Vec<Change>) {
        for edit in changes.into_iter().flat_map(|change| change.edits) {
            // The hold of the change becomes that of the synced name.
            let (to, replaced) = (edit.to, self.set_synced(edit));
            match replaced {
                Ok(replaced) => replaced.into_iter().for_each(|ino| self.release(ino)),
                // The directory itself is gone, and its names with it.
                Err(_) => to.into_iter().for_each(|ino| self.release(ino)),
            }
        }
    }

    /// Gives what the name meant before.
    fn set_synced(&mut self, edit: Edit) -> Result<Option<Ino>, Refusal> {
        let Kind::Directory(directory) = &mut self.node_mut(edit.dir)?.kind else { return Err(Refusal::NotDirectory) };
        Ok(match edit.to {
            Some(ino) => directory.synced.insert(edit.name, ino),
            None => directory.synced.remove(&edit.name),
        })
    }

    pub fn hold(&mut self, ino: Ino) -> Result<(), Refusal> {
        self.node_mut(ino)?.holds += 1;
        Ok(())
    }

    /// Takes a hold back; what nothing leads to in either view is gone, a directory with all below it.
    pub fn release(&mut self, ino: Ino) {
        let mut open = vec![ino];
        while let Some(ino) = open.pop() {
            let Some(node) = self.nodes.get_mut(&ino) else { continue };
            node.holds = node.holds.checked_sub(1).expect("each hold is taken back once");
            open.extend(self.remove_if_gone(ino));
        }
    }

    /// Its synced names, which are to be released.
    fn remove_if_gone(&mut self, ino: Ino) -> Vec<Ino> {
        if self.nodes.get(&ino).is_none_or(|node| node.links > 0 || node.holds > 0) {
            return vec![];
        }
        let node = self.nodes.remove(&ino).expect("it was just there");
        match node.kind {
            Kind::File(content) => {
                self.footprint.now -= content.footprint().now;
                self.footprint.kept -= content.footprint().kept;
                vec![]
            }
            Kind::Directory(directory) => directory.synced.into_values().collect(),
        }
    }

    /// A new file, or a directory.
    pub fn create(&mut self, dir: Ino, name: &OsStr, owner: Owner, is_directory: bool) -> Result<Ino, Refusal> {
        self.check_free(dir, name)?;
        if self.nodes.len() >= INODES_MAX {
            return Err(Refusal::NoSpace);
        }
        let ino = Ino(self.next);
        self.next += 1;
        let kind = match is_directory {
            true => Kind::Directory(Directory { parent: dir, now: BTreeMap::new(), synced: BTreeMap::new() }),
            false => Kind::File(Content::default()),
        };
        self.nodes.insert(ino, Node { kind, owner, modified: self.clock, changed: self.clock, links: 0, holds: 0 });
        self.apply(vec![Edit { dir, name: name.into(), to: Some(ino) }], false);
        Ok(ino)
    }

    pub fn link(&mut self, ino: Ino, dir: Ino, name: &OsStr) -> Result<(), Refusal> {
        self.content(ino)?;
        self.check_free(dir, name)?;
        self.apply(vec![Edit { dir, name: name.into(), to: Some(ino) }], false);
        Ok(())
    }

    pub fn unlink(&mut self, dir: Ino, name: &OsStr) -> Result<(), Refusal> {
        self.content(self.lookup(dir, name)?)?;
        self.apply(vec![Edit { dir, name: name.into(), to: None }], false);
        Ok(())
    }

    pub fn remove_directory(&mut self, dir: Ino, name: &OsStr) -> Result<(), Refusal> {
        if !self.directory(self.lookup(dir, name)?)?.now.is_empty() {
            return Err(Refusal::NotEmpty);
        }
        self.apply(vec![Edit { dir, name: name.into(), to: None }], false);
        Ok(())
    }

    pub fn rename(&mut self, from: (Ino, &OsStr), to: (Ino, &OsStr), onto: Onto) -> Result<(), Refusal> {
        let moved = self.lookup(from.0, from.1)?;
        let there = self.lookup(to.0, to.1);
        let is_directory = |tree: &Tree, ino| tree.directory(ino).is_ok();
        let displaced = match (there, onto) {
            (Err(Refusal::NotFound), Onto::Replace | Onto::Refuse) => {
                self.check_free(to.0, to.1)?;
                None
            }
            (Err(refusal), _) => return Err(refusal),
            (Ok(_), Onto::Refuse) => return Err(Refusal::Exists),
            (Ok(ino), _) => Some(ino),
        };
        if displaced == Some(moved) {
            return Ok(());
        }
        self.check_not_below(moved, to.0)?;
        if onto == Onto::Exchange {
            self.check_not_below(displaced.ok_or(Refusal::NotFound)?, from.0)?;
        } else if let Some(ino) = displaced {
            match (is_directory(self, moved), is_directory(self, ino)) {
                (true, false) => return Err(Refusal::NotDirectory),
                (false, true) => return Err(Refusal::IsDirectory),
                (true, true) if !self.directory(ino)?.now.is_empty() => return Err(Refusal::NotEmpty),
                _ => {}
            }
        }
        let back = displaced.filter(|_| onto == Onto::Exchange);
        let moves_directory = [Some(moved), back].into_iter().flatten().any(|ino| is_directory(self, ino));
        let edits = vec![
            Edit { dir: from.0, name: from.1.into(), to: back },
            Edit { dir: to.0, name: to.1.into(), to: Some(moved) },
        ];
        self.apply(edits, moves_directory);
        Ok(())
    }

    fn check_free(&self, dir: Ino, name: &OsStr) -> Result<(), Refusal> {
        let directory = self.directory(dir)?;
        // A directory that was removed and is still open somewhere takes no names.
        if self.node(dir)?.links == 0 {
            return Err(Refusal::NotFound);
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(Refusal::NameTooLong);
        }
        if directory.now.contains_key(name) { Err(Refusal::Exists) } else { Ok(()) }
    }

    /// `dir` is neither `ino` nor below it.
    fn check_not_below(&self, ino: Ino, dir: Ino) -> Result<(), Refusal> {
        let mut at = dir;
        loop {
            if at == ino {
                return Err(Refusal::Invalid);
            }
            let parent = self.directory(at)?.parent;
            if parent == at {
                return Ok(());
            }
            at = parent;
        }
    }

    /// Edits names now, and puts the change into the journal.
    fn apply(&mut self, edits: Vec<Edit>, moves_directory: bool) {
        let mut released = vec![];
        for edit in &edits {
            if let Some(ino) = edit.to {
                let node = self.nodes.get_mut(&ino).expect("a name is given to what is there");
                node.links += 1;
                // Of the change, until it is committed or undone.
                node.holds += 1;
                node.changed = self.clock;
                if let Kind::Directory(directory) = &mut node.kind {
                    directory.parent = edit.dir;
                }
            }
            let node = self.nodes.get_mut(&edit.dir).expect("names are edited where they can be");
            (node.modified, node.changed) = (self.clock, self.clock);
            let Kind::Directory(directory) = &mut node.kind else { unreachable!("checked to be a directory") };
            let before = match edit.to {
                Some(ino) => directory.now.insert(edit.name.clone(), ino),
                None => directory.now.remove(&edit.name),
            };
            released.extend(before);
        }
        self.journal.add(Change { edits, moves_directory });
        for ino in released {
            let node = self.nodes.get_mut(&ino).expect("a name led to it");
            node.links -= 1;
            node.changed = self.clock;
            let gone = self.remove_if_gone(ino);
            gone.into_iter().for_each(|ino| self.release(ino));
        }
        let over = self.journal.len().saturating_sub(PENDING_CHANGES_MAX);
        if over > 0 {
            self.commit_oldest(over);
        }
    }

    /// The power is cut: what is left is what was durable, and what the dice add.
    pub(crate) fn lose(&mut self, dice: &mut Dice) -> Loss {
        let pending = self.journal.len();
        let kept = dice.names_kept(pending);
        self.commit_oldest(kept);
        let undone = self.journal.drop_all();
        let mut loss = Loss { bytes: 0, names: undone.len() as u64 };
        let had_names: BTreeSet<Ino> =
            self.nodes.iter().filter(|(_, node)| node.links > 0).map(|(&ino, _)| ino).collect();
        let reached = self.start_from_synced_names();
        for ino in had_names.difference(&reached) {
            loss.bytes += self.content(*ino).map_or(0, Content::size);
        }
        self.nodes.retain(|ino, _| reached.contains(ino));
        self.footprint = Footprint::default();
        for node in self.nodes.values_mut() {
            if let Kind::File(content) = &mut node.kind {
                loss.bytes += content.lose(dice);
                self.footprint.now += content.footprint().now;
            }
        }
        loss
    }

    /// Makes the synced names those of now, from the root on, and gives what they lead to.
    fn start_from_synced_names(&mut self) -> BTreeSet<Ino> {
        for node in self.nodes.values_mut() {
            (node.links, node.holds) = (0, 0);
        }
        let root = self.nodes.get_mut(&ROOT).expect("the root is always there");
        (root.links, root.holds) = (1, 1);
        let (mut open, mut reached) = (vec![ROOT], BTreeSet::from([ROOT]));
        while let Some(dir) = open.pop() {
            let Some(Node { kind: Kind::Directory(directory), .. }) = self.nodes.get_mut(&dir) else { continue };
            directory.now = directory.synced.clone();
            let names: Vec<Ino> = directory.now.values().copied().collect();
            for ino in names {
                let node = self.nodes.get_mut(&ino).expect("a synced name holds what it leads to");
                node.links += 1;
                node.holds += 1;
                if let Kind::Directory(below) = &mut node.kind {
                    below.parent = dir;
                }
                if reached.insert(ino) {
                    open.push(ino);
                }
            }
        }
        reached
    }
}

#[cfg(test)]
mod tests;
