//! What all fuzz targets share: bytes that are nearly right, how long a target runs, and what a decoder may cost.
//!
//! Random bytes get past no magic, version or checksum. So a target begins with seeds that our encoders wrote, and
//! sees them changed by a script: bits flipped, lengths taken to extremes, parts left out, repeated, or put in from
//! another seed. One case in eight is random bytes all the same. The same scripts serve `cargo bolero`, whose engines
//! look for those that reach new code; as plain tests they are drawn at random for half a second, or for as many
//! seconds as `FLOTILLA_TEST_FUZZ_SECONDS` says. A failure prints its `BOLERO_RANDOM_SEED`, which repeats it.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    fmt,
    time::{Duration, Instant},
};

use bolero::TypeGenerator;
use bytes::Bytes;

/// How long a target runs as a plain test.
const TIME: Duration = Duration::from_millis(500);

/// No case grows beyond this, however often its parts are repeated.
const CASE_BYTES_MAX: usize = 64 << 10;

/// Memory that a decoder may take whatever its input: messages of errors, the first room of vectors and maps.
const FREE_BYTES: usize = 16 << 10;

/// How long a target runs.
pub fn time() -> Duration {
    let seconds = std::env::var("FLOTILLA_TEST_FUZZ_SECONDS").ok();
    let seconds = seconds.map(|text| text.parse().unwrap_or_else(|_| panic!("FLOTILLA_TEST_FUZZ_SECONDS is {text:?}")));
    seconds.map_or(TIME, Duration::from_secs)
}

/// Runs a fuzz target: `fuzz!(seeds, |bytes| ..)`. It is a macro because bolero names a target by the place of its check.
macro_rules! fuzz {
    ($seeds:expr, |$bytes:ident| $target:expr) => {{
        use $crate::formats::fuzz;
        let seeds: Vec<Vec<u8>> = $seeds.into_iter().map(|seed| Vec::from(&seed[..])).collect();
        assert!(!seeds.is_empty(), "a target without seeds reaches nothing");
        let target = |$bytes: &[u8]| $target;
        // What is right must be taken, or the target would only ever see errors; each decoder says so of its own.
        for seed in &seeds {
            target(seed);
        }
        let target = std::panic::AssertUnwindSafe((target, seeds));
        bolero::check!().with_test_time(fuzz::time()).with_type::<fuzz::Case>().for_each(move |case| {
            let target = &target;
            target.0.0(&case.bytes(&target.0.1))
        });
    }};
}
pub(crate) use fuzz;

/// How the bytes of a case come about.
#[derive(Clone, TypeGenerator)]
pub struct Case {
    kind: u8,
    seed: u16,
    few: u8,
    script: Vec<Change>,
    random: Vec<u8>,
}

/// One change of a seed.
#[derive(Clone, Debug, TypeGenerator)]
pub struct Change {
    what: u8,
    at: u16,
    length: u8,
    value: u64,
}

/// Only what counts of it.
impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Case");
        if !self.is_random() {
            shown.field("seed", &self.seed).field("changes", &self.changes());
        }
        shown.field("random", &format_args!("{:02x?}", self.random)).finish()
    }
}

impl Case {
    fn is_random(&self) -> bool {
        self.kind < 32
    }

    /// Few changes get deep, many come far from what any encoder writes.
    fn changes(&self) -> &[Change] {
        let count = 1 + usize::from(self.few) % if self.few < 200 { 3 } else { 32 };
        &self.script[..count.min(self.script.len())]
    }

    pub fn bytes(&self, seeds: &[Vec<u8>]) -> Vec<u8> {
        if self.is_random() {
            return self.random.clone();
        }
        let mut bytes = seeds[usize::from(self.seed) % seeds.len()].clone();
        for change in self.changes() {
            change.apply(&mut bytes, seeds, &self.random);
            bytes.truncate(CASE_BYTES_MAX);
        }
        bytes
    }
}

/// Values at which counts, lengths and offsets are added to, halved or cast.
const EXTREMES: [u64; 14] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>], random: &[u8]) {
        let at = usize::from(self.at) % (bytes.len() + 1);
        let end = (at + 1 + usize::from(self.length) % 40).min(bytes.len());
        let extreme = EXTREMES[self.value as usize % EXTREMES.len()];
        let value = if self.length & 1 == 0 { extreme } else { self.value };
        match self.what % 12 {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << (self.value % 8),
            2 if at < bytes.len() => bytes[at] = value as u8,
            // A number of one, two, four or eight bytes, in either order.
            3 | 4 => {
                let width = 1 << (self.length % 4);
                let number = if self.what % 12 == 3 { value.to_be_bytes() } else { value.swap_bytes().to_be_bytes() };
                let number = if self.what % 12 == 3 { &number[8 - width..] } else { &number[..width] };
                let room = number.len().min(bytes.len() - at);
                bytes[at..at + room].copy_from_slice(&number[..room]);
            }
            // A varint in the place of one byte.
            5 => drop(bytes.splice(at..(at + 1).min(bytes.len()), varint(value))),
            6 => bytes.truncate(at),
            7 => drop(bytes.drain(at..end)),
            8 => {
                let part = bytes[at..end].to_vec();
                let times = 1 + self.value as usize % 8;
                bytes.splice(at..at, part.repeat(times));
            }
            9 => {
                let other = &seeds[self.value as usize % seeds.len()];
                let from = usize::from(self.at) % (other.len() + 1);
                bytes.splice(at..end.max(at), other[from..].iter().copied().take(usize::from(self.length)));
            }
            10 => drop(bytes.splice(at..at, random.iter().copied())),
            // Many times the same, as somebody who looks for slow code sends it.
            11 if self.length > 240 => {
                let part = bytes[at..end].to_vec();
                let times = CASE_BYTES_MAX / 4 / part.len().max(1);
                bytes.splice(at..at, part.repeat(times));
            }
            _ => bytes.extend_from_slice(random),
        }
    }
}

/// Unsigned LEB128: postcard's and protobuf's.
fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// Holds a decoder to memory in proportion to what it was given.
///
/// # Panics
/// If it held more than `per_byte` bytes for each of its input at any time, and a little.
#[track_caller]
pub fn bounded<T>(input_bytes: usize, per_byte: usize, decode: impl FnOnce() -> T) -> T {
    let (made, held) = measured(decode);
    let allowed = FREE_BYTES + per_byte * input_bytes;
    assert!(held <= allowed, "{input_bytes} bytes made their decoder hold {held}, {allowed} are allowed");
    made
}

/// What a call made, and the most bytes that it held at once beside what was there before. Counts what Rust code of
/// this thread allocates, not the contexts of codecs in C.
pub fn measured<T>(call: impl FnOnce() -> T) -> (T, usize) {
    HELD.set(0);
    PEAK.set(0);
    let made = call();
    (made, usize::try_from(PEAK.get()).unwrap_or_default())
}

/// Holds a decoder to time in proportion to its input: one that is sixteen times as long may take no more than 64 times
/// as long, and quadratic code takes 256 times. `input`: about so many bytes of the worst that anybody can think of.
///
/// # Panics
/// If it takes longer, three times in a row: the machine may have other things to do.
#[track_caller]
pub fn linear(input: impl Fn(usize) -> Vec<u8>, decode: impl Fn(Bytes)) {
    let took = |bytes: usize| {
        let input = Bytes::from(input(bytes));
        (0..2).map(|_| cpu_time(|| decode(input.clone()))).min().expect("twice")
    };
    let mut last = [Duration::ZERO; 2];
    for _ in 0..3 {
        last = [took(32 << 10), took(512 << 10)];
        if last[1] <= last[0] * 64 + Duration::from_millis(5) {
            return;
        }
    }
    panic!("32 KiB took {:?}, 512 KiB {:?}", last[0], last[1]);
}

/// How long a call keeps a processor busy: others that run meanwhile do not count. Linux counts in ticks of some
/// milliseconds, so that short calls are made many times.
fn cpu_time(call: impl Fn()) -> Duration {
    const TICKS: Duration = Duration::from_millis(24);
    let now = || {
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells");
        let nanos = stat.split(' ').next().and_then(|nanos| nanos.parse().ok());
        Duration::from_nanos(nanos.expect("the first number of three"))
    };
    let (began, before) = (Instant::now(), now());
    let mut calls = 0;
    while calls == 0 || began.elapsed() < TICKS {
        call();
        calls += 1;
    }
    now().saturating_sub(before) / calls
}

thread_local! {
    /// Bytes that this thread has allocated and not freed since `measured` began; frees of older ones make it negative.
    static HELD: Cell<i64> = const { Cell::new(0) };
    static PEAK: Cell<i64> = const { Cell::new(0) };
}

/// The system's allocator, which is asked how much is held.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn count(change: i64) {
    // A thread that ends has no counter any more.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + change);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

// Sound: each call is handed on as it came; counting allocates nothing, since its cells need no destructor.
#[allow(unsafe_code, reason = "an allocator cannot be written otherwise, and nothing else knows what is held at once")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as i64 - layout.size() as i64);
        unsafe { System.realloc(at, layout, size) }
    }
}

#[test]
fn what_is_held_at_once_is_counted() {
    let (made, held) = measured(|| {
        drop(Vec::<u8>::with_capacity(3_000));
        Vec::<u8>::with_capacity(1_000)
    });
    assert_eq!(held, 3_000);
    assert_eq!(measured(move || drop(made)).1, 0, "frees of what was there before are no memory of the call");
}

#[test]
#[should_panic(expected = "made their decoder hold")]
fn a_claim_that_is_believed_is_found() {
    bounded(4, 8, || Vec::<u8>::with_capacity(1 << 20));
}

#[test]
#[should_panic(expected = "512 KiB")]
fn quadratic_code_is_found() {
    let count_pairs = |bytes: Bytes| {
        let pairs = bytes.chunks(256).filter(|one| std::hint::black_box(&bytes).chunks(256).any(|other| other > *one));
        assert_eq!(std::hint::black_box(pairs).count(), 0);
    };
    linear(|bytes| vec![7; bytes], count_pairs);
}

#[test]
fn seeds_are_changed_in_every_way_and_never_beyond_measure() {
    let seeds = [vec![1; 100], vec![2; 3], vec![]];
    bolero::check!().with_test_time(Duration::from_millis(100)).with_type::<Case>().for_each(|case| {
        assert!(case.bytes(&seeds).len() <= CASE_BYTES_MAX);
    });
    let change = |what, at, length, value| {
        let mut bytes = vec![1, 2, 3, 4];
        Change { what, at, length, value }.apply(&mut bytes, &[vec![8, 9]], &[7]);
        bytes
    };
    assert_eq!(change(0, 1, 0, 3), [1, 10, 3, 4]);
    assert_eq!(change(3, 1, 2, 10), [1, 0xff, 0xff, 0xff]);
    assert_eq!(change(5, 1, 1, 300), [1, 0xac, 2, 3, 4]);
    assert_eq!(change(6, 2, 0, 0), [1, 2]);
    assert_eq!(change(7, 1, 1, 0), [1, 4]);
    assert_eq!(change(8, 2, 0, 0), [1, 2, 3, 3, 4]);
    assert_eq!(change(9, 3, 1, 0), [1, 2, 3, 8]);
    assert_eq!(change(10, 4, 0, 0), [1, 2, 3, 4, 7]);
}
