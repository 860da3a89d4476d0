//! What brokers ask one another: frozen bytes, and the call itself.

pub mod calls;
pub mod console_calls;
#[cfg(test)]
mod fuzz;
pub mod group_calls;
