//! What strangers and clients send, against a listener.
