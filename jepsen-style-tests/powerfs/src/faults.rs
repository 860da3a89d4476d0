//! Faults of a disk that has power.

use std::{fmt, str::FromStr, time::Duration};

/// Which of the next syncs fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncErrors {
    #[default]
    Never,
    /// The next one; then never again.
    Once,
    Forever,
}

impl FromStr for SyncErrors {
    type Err = String;

    fn from_str(text: &str) -> Result<SyncErrors, String> {
        match text {
            "never" => Ok(SyncErrors::Never),
            "once" => Ok(SyncErrors::Once),
            "forever" => Ok(SyncErrors::Forever),
            _ => Err(format!("{text:?} is none of never, once and forever")),
        }
    }
}

/// What is wrong with the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    pub sync_errors: SyncErrors,
    /// How long each sync takes.
    pub sync_delay: Duration,
    /// Syncs wait until this is false again.
    pub is_hung: bool,
    /// Syncs succeed and do nothing.
    pub lies: bool,
    pub is_read_only: bool,
    /// The disk is full at so many bytes, if that is less than it has.
    pub full_at_bytes: Option<u64>,
}

/// What a sync is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncFate {
    Now,
    After(Duration),
    /// Not before the disk hangs no more.
    Held,
    Fails,
}

impl Faults {
    /// Decides over one sync.
    pub fn sync_fate(&mut self) -> SyncFate {
        match self.sync_errors {
            SyncErrors::Never => {}
            SyncErrors::Once => {
                self.sync_errors = SyncErrors::Never;
                return SyncFate::Fails;
            }
            SyncErrors::Forever => return SyncFate::Fails,
        }
        match self.sync_delay {
            _ if self.is_hung => SyncFate::Held,
            Duration::ZERO => SyncFate::Now,
            delay => SyncFate::After(delay),
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors = match self.sync_errors {
            SyncErrors::Never => "never",
            SyncErrors::Once => "once",
            SyncErrors::Forever => "forever",
        };
        let full = self.full_at_bytes.map_or("off".to_string(), |bytes| bytes.to_string());
        write!(
            f,
            "fsync-error={errors} fsync-delay-ms={} hang={} lie={} read-only={} full={full}",
            self.sync_delay.as_millis(),
            on_off(self.is_hung),
            on_off(self.lies),
            on_off(self.is_read_only)
        )
    }
}

pub(crate) fn on_off(is: bool) -> &'static str {
    if is { "on" } else { "off" }
}

#[test]
fn one_error_is_one() {
    let mut faults = Faults { sync_errors: SyncErrors::Once, ..Faults::default() };
    assert_eq!([faults.sync_fate(), faults.sync_fate()], [SyncFate::Fails, SyncFate::Now]);
    let mut slow = Faults { sync_delay: Duration::from_millis(5), ..Faults::default() };
    assert_eq!(slow.sync_fate(), SyncFate::After(Duration::from_millis(5)));
    slow.is_hung = true;
    assert_eq!(slow.sync_fate(), SyncFate::Held);
    slow.sync_errors = SyncErrors::Forever;
    assert_eq!([slow.sync_fate(), slow.sync_fate()], [SyncFate::Fails; 2]);
}
