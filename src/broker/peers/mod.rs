//! What brokers ask one another: frozen bytes, and the call itself.

pub mod calls;
pub mod console_calls;
pub mod group_calls;
