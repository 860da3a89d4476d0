//! Whole brokers in one process: simulated disks, loopback sockets, one runtime a node so that
//! dropping it is a SIGKILL.

mod beside;
mod cluster;
mod console;
pub mod cut;
mod forgotten;
mod forming;
mod full;
mod fuzz;
mod groups;
mod initial;
mod intake;
mod levels;
pub mod machine;
mod moved;
mod namesake;
mod operators;
mod reach;
mod reads;
mod restored;
mod retention;
pub mod rig;
mod rules;
mod stays_alive;
mod verify;
