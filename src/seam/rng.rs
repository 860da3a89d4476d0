//! The node's one random generator. Seeded, so that a simulation draws the same numbers again.

use std::sync::Mutex;

use rand::{RngExt, SeedableRng, rngs::StdRng};

#[derive(Debug)]
pub struct Rng(Mutex<StdRng>);

impl Rng {
    pub fn seeded(seed: u64) -> Rng {
        Rng(Mutex::new(StdRng::seed_from_u64(seed)))
    }

    /// Begins with entropy of the operating system.
    pub fn from_system() -> Rng {
        let mut seed = [0; 32];
        rand::TryRng::try_fill_bytes(&mut rand::rngs::SysRng, &mut seed).expect("the system has entropy");
        Rng(Mutex::new(StdRng::from_seed(seed)))
    }

    pub fn u64(&self) -> u64 {
        self.lock().random()
    }

    pub fn u128(&self) -> u128 {
        self.lock().random()
    }

    /// Uniform in `0..end`; `end` must not be 0.
    pub fn below(&self, end: u64) -> u64 {
        self.lock().random_range(0..end)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, StdRng> {
        self.0.lock().expect("drawing a number does not panic")
    }
}
