//! Where all chance comes from: SplitMix64, so that a seed gives the same power cut again.

/// A seeded generator.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    pub fn seeded(seed: u64) -> Chance {
        Chance(seed)
    }

    pub fn u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `most`, both possible. The bias is far below what a test could see.
    pub fn up_to(&mut self, most: u64) -> u64 {
        match most.checked_add(1) {
            Some(end) => self.u64() % end,
            None => self.u64(),
        }
    }

    pub fn coin(&mut self) -> bool {
        self.u64() & 1 == 1
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        bytes.iter_mut().for_each(|byte| *byte = self.u64() as u8);
    }
}

#[test]
fn a_seed_gives_the_same_numbers_again() {
    let draw = |seed| {
        let mut chance = Chance::seeded(seed);
        [chance.u64(), chance.up_to(9), u64::from(chance.coin())]
    };
    assert_eq!(draw(7), draw(7));
    assert_ne!(draw(7), draw(8));
    // The generator's published first output for seed 0.
    assert_eq!(draw(0)[0], 0xe220_a839_7b1d_cdaf);
    assert_eq!(Chance::seeded(1).up_to(0), 0);
}
