//! What a broker does by itself: it trims what retention lets go, hands leaderships over when its disk stalls, compares its
//! clock with those of the others, and buries what was deleted.

pub mod clock;
pub mod disk;
pub mod majorities;
pub mod retention;
pub mod stall;
pub mod tombstones;
