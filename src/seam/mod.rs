//! Three of the four seams between the node's code and the world (the fourth is `storage::Kv`).
//! Each has a real implementation and a simulated one, and nothing above them names a clock, a
//! random generator, a thread or a socket. Monotonic time is tokio's, which a simulation pauses.

mod clock;
#[cfg(feature = "server")]
mod guard;
mod net;
#[cfg(feature = "server")]
pub mod plant;
mod rng;
mod turns;

pub use clock::{Clock, FileClock, SystemClock};
#[cfg(feature = "server")]
pub use guard::{AtLimit, ConnectionLimits, GuardedListener, GuardedStream, Silence};
pub use net::{Listener, Net, NetFuture, Stream, TcpNet};
pub use rng::Rng;
pub use turns::{CpuTurns, aside, refreshed};
