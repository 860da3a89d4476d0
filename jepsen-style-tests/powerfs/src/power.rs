//! A mounted disk, and the switch of its power.

use std::{
    io,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::SystemTime,
};

use fuser::{BackgroundSession, Config, MountOption};
use nix::{
    mount::{MntFlags, umount2},
    unistd::{getegid, geteuid},
};

use crate::{
    disk::{Counters, Disk, Options},
    error::Refusal,
    fate::Cut,
    faults::Faults,
    mount::{Shared, Shell},
    tree::{Loss, Owner},
};

/// Why nothing can be mounted here, if nothing can.
pub fn unavailable() -> Option<String> {
    let device = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
    if let Err(error) = device {
        return Some(format!("/dev/fuse cannot be opened: {error}"));
    }
    let has_helper = || Command::new("fusermount3").arg("--version").output().is_ok();
    (!geteuid().is_root() && !has_helper()).then(|| "neither root nor fusermount3 is here to mount it".into())
}

/// The switch: cuts the power of a disk, and sets its faults. Clones switch the same disk.
#[derive(Clone)]
pub struct Power(Arc<Shared>);

impl Power {
    /// The power goes. Every handle that is open is void from now on, also when the power is back; what is
    /// called meanwhile fails with `EIO`.
    pub fn cut(&self, cut: Cut) -> Loss {
        cut_all(std::slice::from_ref(self), cut)
    }

    pub fn on(&self) {
        self.0.lock().disk.power_on();
    }

    pub fn faults(&self) -> Faults {
        self.0.lock().disk.faults
    }

    /// Changes what is wrong with the disk. Syncs that were held go on once it hangs no more.
    pub fn set_faults(&self, change: impl FnOnce(&mut Faults)) {
        let hangs = {
            let mut state = self.0.lock();
            change(&mut state.disk.faults);
            state.disk.faults.is_hung
        };
        if !hangs {
            self.0.release_held();
        }
    }

    /// Turns the bits of `mask` over in one byte of a file, also in what was synced. The path is from the mount point on.
    pub fn flip(&self, path: &Path, at: u64, mask: u8) -> Result<(), Refusal> {
        self.0.lock().disk.flip(path, at, mask)
    }

    /// Cuts the end of a file off, also of what was synced.
    pub fn chop(&self, path: &Path, bytes: u64) -> Result<(), Refusal> {
        self.0.lock().disk.chop(path, bytes)
    }

    pub fn counters(&self) -> Counters {
        self.0.lock().disk.counters()
    }

    /// One line of `name=value`.
    pub fn status(&self) -> String {
        self.0.lock().disk.to_string()
    }
}

/// Cuts the power of several disks at one moment: no call is served by any of them between the first cut and the last.
/// Each draws from the same seed, plus its place.
pub fn cut_all(switches: &[Power], cut: Cut) -> Loss {
    // In the order given; whoever cuts the same disks in another order at the same time would wait for ever.
    let mut states: Vec<_> = switches.iter().map(|switch| switch.0.lock()).collect();
    let mut loss = Loss::default();
    for (seed, state) in (cut.seed..).zip(&mut states) {
        let lost = state.disk.cut(Cut { seed, ..cut });
        loss.bytes += lost.bytes;
        loss.names += lost.names;
    }
    let waiting: Vec<_> = states.iter_mut().flat_map(|state| state.void_handles()).collect();
    drop(states);
    waiting.into_iter().for_each(|answer| answer.give(Err(Refusal::Io)));
    loss
}

/// A disk that is mounted until this is dropped.
pub struct Mounted {
    at: PathBuf,
    power: Power,
    // Ends the session, after the unmounting below.
    _session: BackgroundSession,
}

impl Mounted {
    /// Mounts an empty disk on a directory that is there.
    pub fn new(at: &Path, options: Options) -> io::Result<Mounted> {
        let owner = Owner { mode: 0o755, uid: geteuid().as_raw(), gid: getegid().as_raw() };
        let shared = Arc::new(Shared::new(Disk::new(options, owner, SystemTime::now())));
        let mut config = Config::default();
        config.mount_options = vec![
            MountOption::FSName("powerfs".into()),
            MountOption::DefaultPermissions,
            MountOption::NoDev,
            MountOption::NoSuid,
            MountOption::NoAtime,
        ];
        let session = fuser::spawn_mount(Shell(shared.clone()), at, &config)?;
        Ok(Mounted { at: at.to_path_buf(), power: Power(shared), _session: session })
    }

    pub fn at(&self) -> &Path {
        &self.at
    }

    pub fn power(&self) -> &Power {
        &self.power
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Whoever waits for a sync would be beyond any signal.
        self.power.set_faults(|faults| faults.is_hung = false);
        // Lazily: a process that dies may still have a file open.
        if umount2(&self.at, MntFlags::MNT_DETACH).is_err() {
            let _ = Command::new("fusermount3").args(["-u", "-z", "--"]).arg(&self.at).output();
        }
    }
}
