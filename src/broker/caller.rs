//! Who asks. The door of the broker takes it with every wish of a client, so that one place can tell what somebody may.

/// Whoever asks a broker for something, as the face that took the request knows them.
///
/// Nobody is told apart yet: every client may do everything. A face makes it of what it knows (a certificate, a
/// password, a token) and hands it on unseen; only the broker decides by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller(Principal);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Principal {
    Anonymous,
}

impl Caller {
    /// A client that did not say who it is.
    pub const ANONYMOUS: Caller = Caller(Principal::Anonymous);
}
