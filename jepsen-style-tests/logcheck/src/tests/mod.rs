//! A checker that never fired proves nothing: each rule is shown what it must reject, and the nearest thing that it
//! must not.

mod epochs;
mod files;
mod groups;
mod guards;
mod loss;
mod made_up;
mod metadata;
mod mutations;
mod offsets;
mod polls;
mod tale;
mod words;
mod zones;
