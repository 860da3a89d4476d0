//! Calls of Linux that nobody offers a safe way to.
#![allow(unsafe_code)]

use std::{fs::File, io, os::fd::AsRawFd, ptr};

fn result(answer: i64) -> io::Result<()> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Starts writing a file's pages back and waits for it: not a sync, says its manual page.
pub fn sync_file_range(file: &File) -> io::Result<()> {
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // Safe: a descriptor that is open, and numbers.
    result(unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, flags) }.into())
}

/// Maps a file's first page, to be written to, and unmaps it.
pub fn map(file: &File, sharing: i32) -> io::Result<()> {
    const BYTES: usize = 4096;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // Safe: the kernel chooses the address, so nothing of ours is replaced.
    let at = unsafe { libc::mmap(ptr::null_mut(), BYTES, access, sharing, file.as_raw_fd(), 0) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // Safe: what was just mapped, and nobody has a reference into it.
    result(unsafe { libc::munmap(at, BYTES) }.into())
}

pub fn set_attribute(file: &File) -> io::Result<()> {
    // Safe: a string that ends with a zero, and one byte that is read.
    result(
        unsafe { libc::fsetxattr(file.as_raw_fd(), c"user.colour".as_ptr(), ptr::from_ref(&1u8).cast(), 1, 0) }.into(),
    )
}
