//! Names against a naive journal: the whole history of changes, replayed for each prefix that may survive.

use proptest::prelude::*;

use super::*;
use crate::fate::{Cut, TAILS, Tail};

const OWNER: Owner = Owner { mode: 0o644, uid: 0, gid: 0 };

fn tree(is_kind: bool) -> Tree {
    Tree::new(OWNER, is_kind, SystemTime::UNIX_EPOCH)
}

fn cut(tree: &mut Tree, tail: Tail, seed: u64) -> Loss {
    tree.lose(&mut Dice::of(Cut::new(tail, seed)))
}

type Names = BTreeMap<(Ino, OsString), Ino>;

/// One change that succeeded, and whether it is committed.
struct Past {
    change: Change,
    is_committed: bool,
}

/// What the names are by the letter of the model, slowly.
#[derive(Default)]
struct History {
    past: Vec<Past>,
    files: BTreeMap<Ino, Bytes>,
    is_kind: bool,
}

#[derive(Clone, Default)]
struct Bytes {
    now: Vec<u8>,
    synced: Vec<u8>,
}

impl History {
    fn replay(&self, survives: impl Fn(usize, &Past) -> bool) -> Names {
        let mut names = Names::new();
        for (_, past) in self.past.iter().enumerate().filter(|(i, past)| survives(*i, past)) {
            for edit in &past.change.edits {
                let name = (edit.dir, edit.name.clone());
                match edit.to {
                    Some(ino) => drop(names.insert(name, ino)),
                    None => drop(names.remove(&name)),
                }
            }
        }
        reachable(names)
    }

    fn commit(&mut self, i: usize) {
        if std::mem::replace(&mut self.past[i].is_committed, true) {
            return;
        }
        let change = self.past[i].change.clone();
        for earlier in 0..i {
            let edits = &self.past[earlier].change.edits;
            let meets = edits.iter().any(|a| change.edits.iter().any(|b| a.dir == b.dir));
            if meets || change.moves_directory {
                self.commit(earlier);
            }
        }
    }

    fn sync_directory(&mut self, dir: Ino) {
        for i in 0..self.past.len() {
            if self.is_kind || self.past[i].change.edits.iter().any(|edit| edit.dir == dir) {
                self.commit(i);
            }
        }
    }

    /// Every state of the names that a cut may leave, by how many changes are undone.
    fn after_cuts(&self) -> BTreeMap<u64, Names> {
        let pending: Vec<usize> = (0..self.past.len()).filter(|i| !self.past[*i].is_committed).collect();
        let kept = |count: usize| self.replay(|i, past| past.is_committed || pending[..count].contains(&i));
        (0..=pending.len()).map(|count| ((pending.len() - count) as u64, kept(count))).collect()
    }
}

/// The names of directories that can be reached from the root.
fn reachable(names: Names) -> Names {
    let mut dirs = BTreeSet::from([ROOT]);
    loop {
        let more: Vec<Ino> = names.iter().filter(|((dir, _), _)| dirs.contains(dir)).map(|(_, ino)| *ino).collect();
        let before = dirs.len();
        dirs.extend(more);
        if dirs.len() == before {
            return names.into_iter().filter(|((dir, _), _)| dirs.contains(dir)).collect();
        }
    }
}

fn names_of(tree: &Tree) -> Names {
    let mut names = Names::new();
    for (&dir, node) in &tree.nodes {
        if let Kind::Directory(directory) = &node.kind {
            names.extend(directory.now.iter().map(|(name, &ino)| ((dir, name.clone()), ino)));
        }
    }
    reachable(names)
}

#[derive(Clone, Debug)]
enum Step {
    Make { dir: usize, name: usize, is_directory: bool },
    Link { file: usize, dir: usize, name: usize },
    Remove { dir: usize, name: usize },
    Rename { from: (usize, usize), to: (usize, usize), onto: usize },
    Write { file: usize, byte: u8, len: usize },
    SyncFile(usize),
    SyncDirectory(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let place = || (0..4usize, 0..4usize);
    prop_oneof![
        4 => (place(), prop::bool::weighted(0.3)).prop_map(|((dir, name), is_directory)| Step::Make { dir, name, is_directory }),
        1 => (0..6usize, place()).prop_map(|(file, (dir, name))| Step::Link { file, dir, name }),
        2 => place().prop_map(|(dir, name)| Step::Remove { dir, name }),
        3 => (place(), place(), 0..3usize).prop_map(|(from, to, onto)| Step::Rename { from, to, onto }),
        2 => (0..6usize, 1..=255u8, 1..5000usize).prop_map(|(file, byte, len)| Step::Write { file, byte, len }),
        1 => (0..6usize).prop_map(Step::SyncFile),
        2 => (0..4usize).prop_map(Step::SyncDirectory),
    ]
}

const ONTO: [Onto; 3] = [Onto::Replace, Onto::Refuse, Onto::Exchange];

fn name(n: usize) -> OsString {
    format!("n{n}").into()
}

/// A tree and what was done to it.
struct Run {
    tree: Tree,
    history: History,
}

impl Run {
    fn directory(&self, n: usize) -> Ino {
        let dirs: Vec<Ino> = self.tree.nodes.keys().copied().filter(|ino| self.tree.directory(*ino).is_ok()).collect();
        dirs[n % dirs.len()]
    }

    fn file(&self, n: usize) -> Option<Ino> {
        let files: Vec<Ino> = self.tree.nodes.keys().copied().filter(|ino| self.tree.content(*ino).is_ok()).collect();
        (!files.is_empty()).then(|| files[n % files.len()])
    }

    fn note(&mut self, edits: &[(Ino, usize, Option<Ino>)], moves_directory: bool) {
        let edit = |(dir, n, to): &(Ino, usize, Option<Ino>)| Edit { dir: *dir, name: name(*n), to: *to };
        let change = Change { edits: edits.iter().map(edit).collect(), moves_directory };
        self.history.past.push(Past { change, is_committed: false });
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Make { dir, name: n, is_directory } => {
                let dir = self.directory(dir);
                if let Ok(ino) = self.tree.create(dir, &name(n), OWNER, is_directory) {
                    self.note(&[(dir, n, Some(ino))], false);
                }
            }
            Step::Link { file, dir, name: n } => {
                let (Some(ino), dir) = (self.file(file), self.directory(dir)) else { return };
                if self.tree.link(ino, dir, &name(n)).is_ok() {
                    self.note(&[(dir, n, Some(ino))], false);
                }
            }
            Step::Remove { dir, name: n } => {
                let dir = self.directory(dir);
                if self.tree.unlink(dir, &name(n)).is_ok() || self.tree.remove_directory(dir, &name(n)).is_ok() {
                    self.note(&[(dir, n, None)], false);
                }
            }
            Step::Rename { from, to, onto } => self.rename(from, to, ONTO[onto]),
            Step::Write { file, byte, len } => {
                let Some(ino) = self.file(file) else { return };
                let at = self.tree.content(ino).expect("a file").size();
                let bytes = vec![byte; len];
                self.tree.change(ino, |content| content.write(at, &bytes)).expect("a file");
                self.history.files.entry(ino).or_default().now.extend(bytes);
            }
            Step::SyncFile(file) => {
                let Some(ino) = self.file(file) else { return };
                self.tree.sync_file(ino).expect("a file");
                let bytes = self.history.files.entry(ino).or_default();
                bytes.synced = bytes.now.clone();
                if self.history.is_kind {
                    self.history.sync_directory(ROOT);
                }
            }
            Step::SyncDirectory(dir) => {
                let dir = self.directory(dir);
                self.tree.sync_directory(dir).expect("a directory");
                self.history.sync_directory(dir);
            }
        }
    }

    fn rename(&mut self, from: (usize, usize), to: (usize, usize), onto: Onto) {
        let dirs = (self.directory(from.0), self.directory(to.0));
        let found = (self.tree.lookup(dirs.0, &name(from.1)), self.tree.lookup(dirs.1, &name(to.1)));
        let done = self.tree.rename((dirs.0, &name(from.1)), (dirs.1, &name(to.1)), onto);
        if done.is_err() || found.0 == found.1 {
            return;
        }
        let moved = found.0.expect("it was renamed");
        let back = found.1.ok().filter(|_| onto == Onto::Exchange);
        let is_directory = |ino: Option<Ino>| ino.is_some_and(|ino| self.tree.directory(ino).is_ok());
        let moves_directory = is_directory(Some(moved)) || is_directory(back);
        self.note(&[(dirs.0, from.1, back), (dirs.1, to.1, Some(moved))], moves_directory);
    }
}

/// The counts that decide when a node goes are what can be counted.
fn assert_counted(tree: &Tree) {
    let (mut links, mut holds) = (BTreeMap::from([(ROOT, 1)]), BTreeMap::from([(ROOT, 1)]));
    let count = |of: &mut BTreeMap<Ino, u32>, ino: &Ino| *of.entry(*ino).or_default() += 1;
    let mut footprint = Footprint::default();
    for node in tree.nodes.values() {
        match &node.kind {
            Kind::Directory(directory) => {
                directory.now.values().for_each(|ino| count(&mut links, ino));
                directory.synced.values().for_each(|ino| count(&mut holds, ino));
            }
            Kind::File(content) => {
                footprint.now += content.footprint().now;
                footprint.kept += content.footprint().kept;
            }
        }
    }
    let mut journal = tree.journal.clone();
    journal
        .drop_all()
        .iter()
        .flat_map(|change| &change.edits)
        .filter_map(|edit| edit.to)
        .for_each(|ino| count(&mut holds, &ino));
    for (ino, node) in &tree.nodes {
        let counted = (links.get(ino).copied().unwrap_or(0), holds.get(ino).copied().unwrap_or(0));
        assert_eq!((node.links, node.holds), counted, "{ino:?}");
        assert!(node.links + node.holds > 0, "{ino:?} is of no use");
    }
    assert_eq!(tree.footprint(), footprint);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// After a cut there are the names that were synced, and of the others a beginning, in order; every byte that was
    /// synced; and nothing that nobody wrote.
    #[test]
    fn what_was_synced_survives(steps in prop::collection::vec(step(), 0..40), tail in 0..4usize, seed: u64, is_kind: bool) {
        let mut run = Run { tree: tree(is_kind), history: History { is_kind, ..History::default() } };
        for step in &steps {
            run.apply(step);
            assert_counted(&run.tree);
        }
        let Run { mut tree, history } = run;
        prop_assert_eq!(names_of(&tree), history.replay(|_, _| true));
        let tail = TAILS[tail];
        let mut again = tree.clone();
        let loss = cut(&mut tree, tail, seed);
        assert_counted(&tree);
        let (names, mut allowed) = (names_of(&tree), history.after_cuts());
        prop_assert!(tail != Tail::Clean || loss.names == *allowed.keys().next_back().expect("one at least"));
        let expected = allowed.remove(&loss.names);
        prop_assert_eq!(Some(&names), expected.as_ref(), "{} names undone", loss.names);
        for ino in names.values().filter(|ino| tree.content(**ino).is_ok()) {
            let left = tree.content(*ino).expect("a file").read(0, u64::MAX);
            let bytes = history.files.get(ino).cloned().unwrap_or_default();
            prop_assert!(left.starts_with(&bytes.synced), "{ino:?}: {} of {} bytes", left.len(), bytes.synced.len());
            prop_assert!(tail != Tail::Clean || left.len() == bytes.synced.len());
            prop_assert!(tail != Tail::Torn || bytes.now.starts_with(&left));
            prop_assert!(left.len() <= bytes.now.len());
        }
        // The same cut again, of the same tree and of what is left.
        cut(&mut again, tail, seed);
        prop_assert_eq!(names_of(&again), names.clone());
        prop_assert_eq!(cut(&mut tree, tail, seed), Loss::default());
        prop_assert_eq!(names_of(&tree), names);
    }
}

fn make(tree: &mut Tree, dir: Ino, name: &str) -> Ino {
    tree.create(dir, name.as_ref(), OWNER, false).expect("made")
}

fn is_there(tree: &Tree, name: &str) -> bool {
    tree.lookup(ROOT, name.as_ref()).is_ok()
}

#[test]
fn a_synced_file_without_a_synced_name_is_gone() {
    for is_kind in [false, true] {
        let mut tree = tree(is_kind);
        let file = make(&mut tree, ROOT, "a");
        tree.change(file, |content| content.write(0, b"precious")).expect("written");
        tree.sync_file(file).expect("synced");
        let expected = if is_kind { Loss::default() } else { Loss { bytes: 8, names: 1 } };
        assert_eq!(cut(&mut tree, Tail::Clean, 0), expected);
        assert_eq!(is_there(&tree, "a"), is_kind);
    }
}

#[test]
fn a_name_without_a_synced_file_is_an_empty_file() {
    let mut tree = tree(false);
    let file = make(&mut tree, ROOT, "a");
    tree.change(file, |content| content.write(0, b"careless")).expect("written");
    tree.sync_directory(ROOT).expect("synced");
    assert_eq!(cut(&mut tree, Tail::Clean, 0), Loss { bytes: 8, names: 0 });
    assert_eq!(tree.content(file).map(Content::size), Ok(0));
}

#[test]
fn a_rename_replaces_after_a_sync_of_the_directory_and_not_before() {
    let mut tree = tree(false);
    let [old, new] = ["a", "b"].map(|name| make(&mut tree, ROOT, name));
    tree.sync_directory(ROOT).expect("synced");
    tree.rename((ROOT, "b".as_ref()), (ROOT, "a".as_ref()), Onto::Replace).expect("renamed");
    let mut synced = tree.clone();
    cut(&mut tree, Tail::Clean, 0);
    assert_eq!((tree.lookup(ROOT, "a".as_ref()), tree.lookup(ROOT, "b".as_ref())), (Ok(old), Ok(new)));
    synced.sync_directory(ROOT).expect("synced");
    cut(&mut synced, Tail::Clean, 0);
    assert_eq!((synced.lookup(ROOT, "a".as_ref()), is_there(&synced, "b")), (Ok(new), false));
}

#[test]
fn what_is_refused() {
    let mut tree = tree(false);
    let file = make(&mut tree, ROOT, "file");
    let dir = tree.create(ROOT, "dir".as_ref(), OWNER, true).expect("made");
    let below = tree.create(dir, "below".as_ref(), OWNER, true).expect("made");
    let at = |name: &'static str| (ROOT, OsStr::new(name));
    for (refused, refusal) in [
        (tree.clone().rename(at("dir"), (below, "x".as_ref()), Onto::Replace), Refusal::Invalid),
        (tree.clone().rename(at("file"), at("dir"), Onto::Replace), Refusal::IsDirectory),
        (tree.clone().rename(at("dir"), at("file"), Onto::Replace), Refusal::NotDirectory),
        (tree.clone().rename(at("file"), at("dir"), Onto::Refuse), Refusal::Exists),
        (tree.clone().rename(at("file"), at("none"), Onto::Exchange), Refusal::NotFound),
        (tree.clone().rename(at("none"), at("file"), Onto::Replace), Refusal::NotFound),
        (tree.clone().remove_directory(ROOT, "dir".as_ref()), Refusal::NotEmpty),
        (tree.clone().remove_directory(ROOT, "file".as_ref()), Refusal::NotDirectory),
        (tree.clone().unlink(ROOT, "dir".as_ref()), Refusal::IsDirectory),
        (tree.clone().link(dir, ROOT, "dir2".as_ref()), Refusal::IsDirectory),
        (tree.clone().link(file, ROOT, "x".repeat(256).as_ref()), Refusal::NameTooLong),
        (tree.clone().create(file, "x".as_ref(), OWNER, false).map(drop), Refusal::NotDirectory),
        (tree.clone().create(ROOT, "dir".as_ref(), OWNER, false).map(drop), Refusal::Exists),
    ] {
        assert_eq!(refused, Err(refusal));
    }
}

#[test]
fn an_open_file_without_a_name_stays_until_it_is_closed() {
    let mut tree = tree(false);
    let file = make(&mut tree, ROOT, "a");
    tree.hold(file).expect("there");
    tree.unlink(ROOT, "a".as_ref()).expect("unlinked");
    tree.sync_directory(ROOT).expect("synced");
    assert!(tree.content(file).is_ok());
    tree.release(file);
    assert_eq!(tree.content(file).map(Content::size), Err(Refusal::NotFound));
}

/// A journal has an end: what does not fit any more is committed.
#[test]
fn the_journal_is_bounded() {
    let mut tree = tree(false);
    let file = make(&mut tree, ROOT, "a");
    for _ in 0..PENDING_CHANGES_MAX {
        tree.link(file, ROOT, "b".as_ref()).expect("linked");
        tree.unlink(ROOT, "b".as_ref()).expect("unlinked");
    }
    assert_eq!(tree.pending_names(), PENDING_CHANGES_MAX);
    cut(&mut tree, Tail::Clean, 0);
    assert!(is_there(&tree, "a"));
}
