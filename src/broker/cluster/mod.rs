//! The cluster as brokers keep it together: forming it, joining it, registering, seeing who lives and who leads, handing
//! leaderships over, noticing directories that were set back.

pub mod assess;
pub mod forming;
pub mod health;
pub mod introduction;
pub mod neighbours;
pub mod past;
pub mod placed;
pub mod reach;
pub mod reconcile;
pub mod setback;
pub mod transfer;
pub mod waiting;
