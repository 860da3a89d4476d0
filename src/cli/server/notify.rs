//! systemd's notification protocol: one datagram to the socket named in NOTIFY_SOCKET. Without that
//! variable nothing happens.

use std::{
    ffi::OsString,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{ffi::OsStrExt, net, net::UnixDatagram},
    },
};

/// Listeners are open and the metadata group answers: `Type=notify` units count as started.
pub(super) const READY: &str = "READY=1";
/// The order of SAFETY M13 has begun.
pub(super) const STOPPING: &str = "STOPPING=1";

/// Tells the service manager. It cannot help us if that fails, so a failure is only logged.
pub(super) fn tell(state: &str) {
    if let Some(socket) = std::env::var_os("NOTIFY_SOCKET")
        && let Err(error) = send(&socket, state)
    {
        tracing::warn!(%error, ?socket, state, "could not notify the service manager");
    }
}

fn send(socket: &OsString, state: &str) -> io::Result<()> {
    let name = socket.as_bytes();
    let address = match name.strip_prefix(b"@") {
        Some(name) => net::SocketAddr::from_abstract_name(name)?,
        None => net::SocketAddr::from_pathname(socket)?,
    };
    let datagram = UnixDatagram::unbound()?;
    datagram.set_nonblocking(true)?;
    datagram.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_reaches_a_socket_by_path_and_by_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        send(&path.into_os_string(), READY).unwrap();
        let mut buffer = [0; 32];
        let length = by_path.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1");

        let name = format!("flotilla-notify-test-{}", std::process::id());
        let address = net::SocketAddr::from_abstract_name(&name).unwrap();
        let abstract_socket = UnixDatagram::bind_addr(&address).unwrap();
        send(&format!("@{name}").into(), STOPPING).unwrap();
        let length = abstract_socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"STOPPING=1");
    }

    #[test]
    fn an_absent_socket_is_an_error_not_a_panic() {
        assert!(send(&"/nowhere/notify".into(), READY).is_err());
        assert!(send(&"@".into(), READY).is_err());
    }
}
