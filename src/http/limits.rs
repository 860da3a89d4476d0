//! Every bound of this module, with its reason.

use std::time::Duration;

/// A few scrapers, a load balancer and people: far below the file descriptor limit, so that no
/// stranger takes the clients' descriptors away. One more takes the place of the most silent one, so that idle
/// browsers never keep a supervisor's probe out.
pub const CONNECTIONS_MAX: usize = 128;
/// Longer than usual scrape intervals, so that scrapers keep their connection.
pub const SILENCE_MAX: Duration = Duration::from_secs(75);

/// A path with its query: the longest topic or group name, percent-encoded, fits several times.
pub const URI_BYTES_MAX: usize = 4 * 1024;
/// Requests for the console and its API worked on at once; beyond it 503. Each may ask every broker.
pub const REQUESTS_MAX: usize = 16;
/// The longest a request may take: above the broker's own deadlines for one read, below a person's patience.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// Topics, partitions or offsets in one page's table: what a person scrolls through.
pub const ROWS_MAX: usize = 100;
/// Groups in one page's table: each one's lag is asked of the leaders of its partitions.
pub const GROUPS_MAX: usize = 50;
/// Groups of a page described at the same time.
pub const GROUPS_AT_ONCE: usize = 4;
/// Members of a group that its page lists.
pub const MEMBERS_MAX: usize = 200;
/// Problems and notes come bounded from the broker; nodes may be a thousand, and each is asked for its disk.
pub const NODES_MAX: usize = 100;

/// Records of one page, unless asked otherwise; and the most that the API answers at once.
pub const RECORDS_DEFAULT: u32 = 50;
pub const RECORDS_MAX: u32 = 500;
/// Bytes of batches read for one page.
pub const BROWSE_BYTES: u32 = 512 * 1024;
/// What one batch may decompress to for the console. Less than `record` allows: a page is for people.
pub const DECODED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A batch that cannot come to more than this is decompressed on the spot; others take a turn.
pub use crate::broker::COMPUTED_INLINE_BYTES;
/// Keys, values and headers of one page, decoded; the record that exceeds it is the page's last.
pub const PAGE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Bytes of one key, value or header that a page shows; the API answers whole ones.
pub const SHOWN_BYTES_MAX: usize = 4 * 1024;
/// Bytes that a page shows as hex, where each takes five characters.
pub const SHOWN_HEX_MAX: usize = 512;
/// Bytes of text, or of a hex dump, beyond which it scrolls in a box: some ten lines on a phone.
pub const SHOWN_LONG: usize = 500;
/// Headers of one record that a page shows.
pub const SHOWN_HEADERS_MAX: usize = 50;
