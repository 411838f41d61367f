//! Sizes, durations and bit rates, as people write them and as they are written to people.
//!
//! Lua options, the command line, `provium.toml` and the scan of a test file for claims all use these
//! functions, so that a text which one of them accepts is accepted by all, with the same meaning.
//!
//! | kind | text | number alone |
//! |---|---|---|
//! | size | a number with `K`, `M`, `G` or `T`: powers of 1024, in either case, also as `KB` or `KiB` | bytes |
//! | duration | a number with `ms`, `s`, `m` or `h` | seconds |
//! | bit rate | a number with `K`, `M` or `G`: powers of 1000, in either case | bits per second |
//!
//! A number is decimal and may have a fraction and, without a unit, an exponent. What a value may be (a
//! memory size of at least one page, a timeout of less than a year) is the caller's business.

mod duration;
mod number;
mod rate;
mod size;

pub use duration::{
    DurationError, duration_of_seconds, format_duration, parse_duration, parse_seconds,
};
pub use rate::{RateError, bit_rate_of_number, format_bit_rate, parse_bit_rate};
pub use size::{SizeError, format_size, parse_size, size_of_number};
