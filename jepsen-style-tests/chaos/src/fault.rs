//! The faults, each with its name, what it does, and what it needs.

use std::{fmt, str::FromStr};

/// What a fault needs of the machine or of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    Nothing,
    /// Brokers of our own, to do something to.
    Brokers,
    /// Disks of our own, whose power can be cut.
    Disks,
    /// At least five nodes.
    FiveNodes,
}

/// How much of the cluster a fault takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It takes one node out, or cuts it off.
    Node,
    /// It makes one node or its links worse; it may overlap with others.
    Mild,
    /// It takes out so many nodes that the cluster cannot be expected to go on meanwhile.
    Cluster,
}

macro_rules! faults {
    ($($fault:ident $name:literal $need:ident $reach:ident $least:literal..$most:literal $says:literal;)+) => {
        /// What can be done to a cluster.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Fault { $($fault),+ }

        impl Fault {
            pub const ALL: &[Fault] = &[$(Fault::$fault),+];

            /// How command lines and histories call it.
            pub fn name(self) -> &'static str {
                match self { $(Fault::$fault => $name),+ }
            }

            /// What it does, in one line.
            pub fn says(self) -> &'static str {
                match self { $(Fault::$fault => $says),+ }
            }

            pub fn need(self) -> Need {
                match self { $(Fault::$fault => Need::$need),+ }
            }

            pub fn reach(self) -> Reach {
                match self { $(Fault::$fault => Reach::$reach),+ }
            }

            /// The least and the most seconds from its beginning to its healing.
            pub fn seconds(self) -> (u64, u64) {
                match self { $(Fault::$fault => ($least, $most)),+ }
            }
        }
    };
}

faults! {
    Kill "kill" Brokers Node 4..12 "SIGKILL to one node, which starts again later";
    KillMajority "kill-majority" Brokers Cluster 2..8 "SIGKILL to a majority at once";
    KillAll "kill-all" Brokers Cluster 1..5 "SIGKILL to all nodes at once";
    Pause "pause" Brokers Node 4..30 "SIGSTOP to one node, and SIGCONT later";
    Restart "restart" Brokers Node 3..8 "SIGTERM to one node, which hands over and starts again";
    RollingRestart "rolling-restart" Brokers Node 10..20 "a graceful restart of one node after the other";
    PartitionOne "partition-one" Brokers Node 4..12 "one node and all others do not hear each other";
    PartitionHalves "partition-halves" Brokers Node 4..12 "the larger half keeps the target; the smaller is cut off";
    PartitionBridge "partition-bridge" Brokers Node 4..12 "one node hears all others, and those do not hear each other";
    PartitionRing "partition-ring" FiveNodes Cluster 4..12 "each node hears two neighbours only";
    CutOutgoing "cut-outgoing" Brokers Node 4..12 "what one node sends to others vanishes, what they send arrives";
    CutIncoming "cut-incoming" Brokers Node 4..12 "what others send to one node vanishes, what it sends arrives";
    Delay "delay" Brokers Mild 4..12 "what one node sends and gets comes 50 to 200 ms later, and jitters";
    Stall "stall" Brokers Mild 4..12 "chunks stall on one node's links as if packets were lost";
    Bandwidth "bandwidth" Brokers Mild 4..12 "one node's links carry 2 Mbit/s each way";
    Reset "reset" Brokers Mild 3..8 "one node's connections to others are reset again and again";
    Corrupt "corrupt" Brokers Mild 3..8 "bits of what one node sends and gets are turned over on the way";
    ClockJump "clock-jump" Brokers Mild 4..12 "one node's wall clock is half an hour off, or stands still, and jumps back";
    ClockSkew "clock-skew" Brokers Mild 4..12 "one node's wall clock runs a fifth too fast or too slow, and is set right";
    PowerCut "power-cut" Disks Node 4..12 "one node's power goes, and with it what was not synced";
    PowerCutAll "power-cut-all" Disks Cluster 1..5 "the power of all nodes goes at one moment";
    FsyncError "fsync-error" Disks Node 4..10 "syncs of one node's disk fail, once or for a while";
    FsyncSlow "fsync-slow" Disks Mild 4..12 "each sync of one node's disk takes 20 to 200 ms";
    DiskHung "disk-hung" Disks Node 4..20 "syncs of one node's disk hang";
    DiskFull "disk-full" Disks Node 4..12 "one node's disk is full";
    Transfer "transfer" Nothing Mild 4..12 "what one node leads is handed to others, and on, again and again";
    Damage "damage" Brokers Node 6..12 "a file of a killed node is damaged; if it counts the node stays out until its directory is put back";
    Wipe "wipe" Brokers Node 6..12 "a killed node's directory is emptied; the node stays out until its directory is put back";
}

impl Fault {
    /// Whether a mild fault may be installed beside it. What is about to be copied or taken away as a whole stays alone.
    pub fn may_overlap(self) -> bool {
        self.reach() != Reach::Cluster && !self.takes_files()
    }

    /// Whether what a node had promised is gone with it, so that all others must be whole meanwhile.
    pub fn takes_files(self) -> bool {
        matches!(self, Fault::Damage | Fault::Wipe)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Fault, String> {
        let found = Fault::ALL.iter().copied().find(|fault| fault.name() == text);
        found.ok_or_else(|| format!("{text:?} is no fault; --list shows them"))
    }
}

/// Whom a fault is aimed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Aim {
    /// The node that leads the most partitions.
    PartitionLeader,
    /// The leader of the metadata group.
    MetadataLeader,
    /// The coordinator of the groups.
    Coordinator,
    /// Any node.
    Anybody,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for fault in Fault::ALL {
            assert_eq!(fault.name().parse(), Ok(*fault));
            let (least, most) = fault.seconds();
            assert!(0 < least && least <= most, "{fault}");
        }
        assert!("kil".parse::<Fault>().is_err_and(|error| error.contains("\"kil\"")));
    }
}
