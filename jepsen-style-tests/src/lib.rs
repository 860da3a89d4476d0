//! Black-box tests: they know binaries, sockets and public protocols.
