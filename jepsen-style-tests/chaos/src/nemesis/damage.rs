//! Faults of a node's files: damaged, or all gone. The node has to say so and stay out.
//!
//! Such a directory is dead for good (SAFETY B5), and this version cannot put another replica in its place. So what an operator
//! does is what the broker and README.md say: the directory is put back that it had *last*. It is copied after the process was
//! killed and before anything is touched. Putting the copy back is sound only if no other broker heard anything meanwhile
//! that the copy does not know, neither a vote nor an acknowledgement nor a new start; else it is a directory that was set back:
//!
//! - Where the damage must be noticed before the broker serves, it is started *among its peers*. It opens its store before
//!   it listens, so one that is refused there has told nobody anything.
//! - Where it may go unnoticed, it is started *alone*: on addresses of its own, which nobody knows, and at those that it has of
//!   its peers nobody listens. Links that are cut would not do: they hold what was sent, and deliver it later.
//! - An *emptied* directory has to ask its peers, or it could not be refused. It runs no replica and tells of no start
//!   before it is registered (`broker::cluster::forming`), and that is what is refused.
//!
//! One that began among its peers may have voted: nothing is put back then, the node stays out, the run is invalid and no other
//! fault follows.
//!
//! What this leaves open: a damaged node that noticed nothing and goes on among its peers. `black_box/damaged.rs` has that.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use logcheck::nemesis::Line;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Hit, Nemesis, WHOLE_MAX};
use crate::{
    cluster::node::Node,
    error::ChaosError,
    fault::Fault,
    strike::{self, Strike},
};

const LOOK: Duration = Duration::from_millis(50);
/// How long a node may take to see what it has to see: opening a database, or being refused after an election.
const NOTICE_MAX: Duration = Duration::from_secs(30);
const SAYS_DAMAGED: &str = "damaged";
/// Of a broker whose storage id is not the one that is registered.
const SAYS_EMPTIED: &str = "put the directory back that it had last";
/// Of one that runs its replicas, and of one that answers clients.
const SAYS_SERVES: [&str; 2] = ["part of the cluster", " is ready: client "];

/// What was done to a directory, and whether that must be noticed.
struct Spoilt {
    says: String,
    must_be_noticed: bool,
}

/// How a start on such a directory ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    /// It said what is wrong, and ended, before it served.
    Refused,
    /// It said so after it had served.
    Late,
    /// It ended, and did not say why.
    Mute,
    WentOn,
}

impl Came {
    fn of(fault: Fault, has_failed: Option<bool>, said: &str) -> Came {
        let word = if fault == Fault::Wipe { SAYS_EMPTIED } else { SAYS_DAMAGED };
        match has_failed {
            None => Came::WentOn,
            Some(true) if said.contains(word) => match SAYS_SERVES.iter().any(|serves| said.contains(serves)) {
                true => Came::Late,
                false => Came::Refused,
            },
            Some(_) => Came::Mute,
        }
    }

    /// Whether this is how it should be.
    fn is_right(self, must_be_noticed: bool) -> bool {
        match self {
            Came::Refused => true,
            Came::Late | Came::WentOn => !must_be_noticed,
            Came::Mute => false,
        }
    }

    /// Whether nobody can have heard of it, so that the copy is what the broker had last.
    fn may_be_put_back(self, is_alone: bool) -> bool {
        is_alone || self == Came::Refused
    }

    fn says(self) -> &'static str {
        match self {
            Came::Refused => "said so and stayed out",
            Came::Late => "said so after it had served",
            Came::Mute => "ended and did not say why",
            Came::WentOn => "went on",
        }
    }
}

impl Nemesis {
    /// Kills a node, keeps what it has, and takes it away or damages it.
    pub(super) async fn spoil(&self, fault: Fault, aimed: u8, random: &mut fastrand::Rng) -> Result<Hit, ChaosError> {
        let (node, mut own) = (self.cluster.node(aimed).clone(), random.fork());
        let spoilt = tokio::task::spawn_blocking(move || {
            node.kill();
            let (data, aside) = (node.data_dir(), aside(&node));
            // One that an earlier fault left there is of another moment.
            if aside.exists() {
                fs::remove_dir_all(&aside)?;
            }
            copy(&data, &aside)?;
            match fault {
                Fault::Wipe => empty(&data).map(|()| Some(Spoilt { says: String::new(), must_be_noticed: true })),
                _ => damage(&data, &mut own),
            }
        });
        let spoilt = spoilt.await.map_err(|error| ChaosError::Broken(error.to_string()))?;
        match spoilt.map_err(ChaosError::file("cannot damage", self.cluster.node(aimed).data_dir()))? {
            Some(Spoilt { says, must_be_noticed }) => Ok(Hit { must_be_noticed, ..Hit::told(&[aimed], says) }),
            None => {
                self.start(&[aimed])?;
                Ok(Hit::of(&[]))
            }
        }
    }

    /// Starts it on what was left to it, and looks what it does until the fault is over.
    pub(super) async fn try_spoilt(&self, fault: Fault, hit: &Hit, until: Instant) -> Result<(), ChaosError> {
        for id in &hit.targets {
            let (node, is_alone) = (self.cluster.node(*id), !hit.must_be_noticed);
            let from = fs::metadata(node.log()).map_or(0, |metadata| metadata.len());
            node.try_start(self.cluster.binary(), is_alone)?;
            let end = if is_alone { until } else { until.max(Instant::now() + NOTICE_MAX) };
            let mut ended = None;
            while ended.is_none() && Instant::now() < end {
                sleep(LOOK).await;
                ended = node.tried();
            }
            node.kill();
            let came = Came::of(fault, ended.map(|status| !status.success()), &said(&node.log(), from));
            self.note_tried(fault, hit, node, came, ended)?;
            match came.may_be_put_back(is_alone) {
                true => {
                    sleep_until(until).await;
                    self.put_back(node).await?;
                }
                false => node.give_up(),
            }
        }
        Ok(())
    }

    /// What is as it should be and did not end is nothing to write down.
    fn note_tried(
        &self,
        fault: Fault,
        hit: &Hit,
        node: &Node,
        came: Came,
        ended: Option<ExitStatus>,
    ) -> Result<(), ChaosError> {
        let expected = came.is_right(hit.must_be_noticed);
        let Some(how) = ended.map(|status| format!(" ({status})")).or((!expected).then(String::new)) else {
            return Ok(());
        };
        let words = if expected { String::new() } else { format!("; its last words: {}", node.last_words(3)) };
        let what = if hit.detail.is_empty() { fault.to_string() } else { format!("{fault}, {}", hit.detail) };
        let what = format!("was started again after {what}: it {}{how}{words}", came.says());
        self.note(&Line::NodeFailure { at: self.recorder.now(), node: node.name(), what, expected })
    }

    /// The node stands still, and nobody heard of it since it was copied.
    async fn put_back(&self, node: &Node) -> Result<(), ChaosError> {
        let (data, aside) = (node.data_dir(), aside(node));
        let shown = data.clone();
        let put = tokio::task::spawn_blocking(move || {
            empty(&data)?;
            copy(&aside, &data)?;
            sync(&data)?;
            fs::remove_dir_all(&aside)
        });
        let put = put.await.map_err(|error| ChaosError::Broken(error.to_string()))?;
        put.map_err(ChaosError::file("cannot put back", shown))?;
        self.cluster.start_node(node)?;
        if let Err(error) = self.cluster.wait_healthy(WHOLE_MAX).await {
            let what = format!("its own directory was put back, and the cluster did not become whole: {error}");
            self.note(&Line::NodeFailure { at: self.recorder.now(), node: node.name(), what, expected: false })?;
        }
        Ok(())
    }
}

/// On the machine's disk, not on the node's, which may be a mount of ours.
fn aside(node: &Node) -> PathBuf {
    node.data_dir().with_extension("aside")
}

fn damage(data: &Path, random: &mut fastrand::Rng) -> io::Result<Option<Spoilt>> {
    for (kind, name) in strike::order(&strike::files(data)?, random) {
        let path = data.join(&name);
        if let Some(strike) = Strike::draw(kind, &name, &fs::read(&path)?, random) {
            strike.apply(&path)?;
            let says = format!("{name}, {}", strike.says());
            return Ok(Some(Spoilt { says, must_be_noticed: kind.must_be_noticed() }));
        }
    }
    Ok(None)
}

/// Everything in a directory goes; itself it stays, since it may be a mount.
fn empty(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    File::open(dir)?.sync_all()
}

/// What is in a directory, with links, holes and times.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    let copied = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).output()?;
    match copied.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(String::from_utf8_lossy(&copied.stderr).trim().to_string())),
    }
}

/// All of it durable: a power cut may follow.
fn sync(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => sync(&entry.path())?,
            false => File::open(entry.path())?.sync_all()?,
        }
    }
    File::open(dir)?.sync_all()
}

/// What a node wrote into its log from here on.
fn said(log: &Path, from: u64) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let from = usize::try_from(from).unwrap_or(usize::MAX).min(bytes.len());
    String::from_utf8_lossy(&bytes[from..]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_ends_must_say_why_and_who_forgot_must_end_before_it_serves() {
        let came = [
            (Fault::Damage, Some(true), "damaged data directory", Came::Refused),
            (Fault::Damage, Some(true), "broker 1 is ready: client here\ndamaged data directory", Came::Late),
            (Fault::Damage, Some(true), "no such file", Came::Mute),
            (Fault::Damage, Some(false), "damaged data directory", Came::Mute),
            (Fault::Damage, None, "damaged data directory", Came::WentOn),
            (Fault::Wipe, Some(true), "put the directory back that it had last", Came::Refused),
            (Fault::Wipe, Some(true), "part of the cluster\nput the directory back that it had last", Came::Late),
            (Fault::Wipe, Some(true), "damaged", Came::Mute),
        ];
        for (fault, has_failed, said, right) in came {
            assert_eq!(Came::of(fault, has_failed, said), right, "{fault}, {has_failed:?}, {said}");
        }
        let right = |must: bool| [Came::Refused, Came::Late, Came::Mute, Came::WentOn].map(|came| came.is_right(must));
        assert_eq!((right(true), right(false)), ([true, false, false, false], [true, true, false, true]));
    }

    /// One that began among its peers may have voted.
    #[test]
    fn nothing_is_put_back_that_others_may_know_better() {
        let may = |alone| [Came::Refused, Came::Late, Came::Mute, Came::WentOn].map(|came| came.may_be_put_back(alone));
        assert_eq!((may(true), may(false)), ([true; 4], [true, false, false, false]));
    }

    #[test]
    fn what_was_emptied_comes_back_as_it_was() {
        let dir = tempfile::tempdir().expect("a directory");
        let (data, kept) = (dir.path().join("data"), dir.path().join("data.aside"));
        fs::create_dir_all(data.join("db")).expect("made");
        fs::write(data.join("FLOOR"), "floor").expect("written");
        fs::write(data.join("db/CURRENT"), "MANIFEST-000005\n").expect("written");
        copy(&data, &kept).expect("copied");
        empty(&data).expect("emptied");
        assert_eq!(fs::read_dir(&data).expect("it is there").count(), 0);
        copy(&kept, &data).expect("put back");
        assert_eq!(strike::files(&data).expect("listed"), ["FLOOR", "db/CURRENT"]);
        assert_eq!(fs::read_to_string(data.join("db/CURRENT")).expect("read"), "MANIFEST-000005\n");
    }
}
