//! Why the file system refuses a call.

use std::fmt;

/// A refusal; each is one errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The power is off, the handle is of before a cut, or a fault says so.
    Io,
    NotFound,
    Exists,
    NotDirectory,
    IsDirectory,
    NotEmpty,
    NoSpace,
    ReadOnly,
    Invalid,
    NameTooLong,
    TooLarge,
    Unsupported,
}

impl Refusal {
    pub fn errno(self) -> i32 {
        match self {
            Refusal::Io => libc::EIO,
            Refusal::NotFound => libc::ENOENT,
            Refusal::Exists => libc::EEXIST,
            Refusal::NotDirectory => libc::ENOTDIR,
            Refusal::IsDirectory => libc::EISDIR,
            Refusal::NotEmpty => libc::ENOTEMPTY,
            Refusal::NoSpace => libc::ENOSPC,
            Refusal::ReadOnly => libc::EROFS,
            Refusal::Invalid => libc::EINVAL,
            Refusal::NameTooLong => libc::ENAMETOOLONG,
            Refusal::TooLarge => libc::EFBIG,
            Refusal::Unsupported => libc::EOPNOTSUPP,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::io::Error::from_raw_os_error(self.errno()).fmt(f)
    }
}
