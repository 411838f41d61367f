//! Single Lua values as Rust values: text, numbers, sizes, durations, rates, permission bits.
//!
//! The error of each function says what the value must be and what it is; its caller puts the name of the
//! argument or option in front.

use super::preview::shown;
use crate::text;
use mlua::Value;
use provium_units as units;
use std::time::Duration;

/// Longest duration in either direction, seconds. The clocks of guest and host hold it with room to spare.
const MAX_SECONDS: f64 = 1e9;

/// A string's bytes; nothing else is taken for a string.
pub(crate) fn bytes_of(value: &Value) -> Result<Vec<u8>, String> {
    match value {
        Value::String(text) => Ok(text.as_bytes().to_vec()),
        other => Err(format!("must be a string, got {}", shown(other))),
    }
}

/// Longest text that can be looked for in a stream, MiB.
const LONGEST_TO_FIND: usize = 1;

/// A text to look for: a string that is neither empty, since that would be found anywhere, nor longer than what
/// is kept of a stream.
pub(crate) fn text_to_find_of(value: &Value) -> Result<Vec<u8>, String> {
    match bytes_of(value)? {
        bytes if bytes.is_empty() => Err("must not be empty".to_owned()),
        bytes if bytes.len() > LONGEST_TO_FIND << 20 => Err(format!(
            "must be at most {LONGEST_TO_FIND} MiB long, got {} bytes",
            bytes.len()
        )),
        bytes => Ok(bytes),
    }
}

/// A string that is UTF-8.
pub(crate) fn text_of(value: &Value) -> Result<String, String> {
    String::from_utf8(bytes_of(value)?).map_err(|_| "must be valid UTF-8".to_owned())
}

/// A string for people: bytes that are not UTF-8 become `\xNN`.
pub(crate) fn words_of(value: &Value) -> Result<String, String> {
    Ok(text::display(&bytes_of(value)?))
}

/// An integer, or a float that is one.
pub(crate) fn integer_of(value: &Value) -> Result<i64, String> {
    match value {
        Value::Integer(number) => Ok(*number),
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a whole number within ±2^53"
        )]
        Value::Number(number) if number.fract() == 0.0 && number.abs() <= 2f64.powi(53) => {
            Ok(*number as i64)
        }
        other => Err(format!("must be an integer, got {}", shown(other))),
    }
}

/// An integer that fits `T`, an unsigned type.
pub(crate) fn unsigned_of<T: TryFrom<i64>>(value: &Value) -> Result<T, String> {
    unsigned_from(0, value)
}

/// How many of something: as [`unsigned_of`], and at least one.
pub(crate) fn count_of<T: TryFrom<i64>>(value: &Value) -> Result<T, String> {
    unsigned_from(1, value)
}

fn unsigned_from<T: TryFrom<i64>>(least: i64, value: &Value) -> Result<T, String> {
    let number = integer_of(value)?;
    let fits = T::try_from(number).ok().filter(|_| number >= least);
    fits.ok_or_else(|| match u64::BITS as usize - 8 * std::mem::size_of::<T>() {
        0 => format!("must be at least {least}, got {number}"),
        unused => format!(
            "must be from {least} to {}, got {number}",
            u64::MAX >> unused
        ),
    })
}

/// A number.
pub(crate) fn number_of(value: &Value) -> Result<f64, String> {
    match value {
        #[expect(clippy::cast_precision_loss, reason = "as Lua itself converts")]
        Value::Integer(number) => Ok(*number as f64),
        Value::Number(number) => Ok(*number),
        other => Err(format!("must be a number, got {}", shown(other))),
    }
}

/// A duration: a number of seconds, or a text with a unit.
pub(crate) fn duration_of(value: &Value) -> Result<Duration, String> {
    let seconds = seconds_of(value)?;
    let duration = match value {
        Value::String(text) => units::parse_duration(&text.to_string_lossy()),
        _ => units::duration_of_seconds(seconds),
    };
    duration.map_err(|error| error.to_string())
}

/// A duration that may be negative, in nanoseconds.
pub(crate) fn signed_nanoseconds_of(value: &Value) -> Result<i64, String> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "at most 1e18 either way, see MAX_SECONDS"
    )]
    Ok((seconds_of(value)? * 1e9).round() as i64)
}

fn seconds_of(value: &Value) -> Result<f64, String> {
    let seconds = match value {
        Value::String(text) => {
            units::parse_seconds(&text.to_string_lossy()).map_err(|error| error.to_string())?
        }
        Value::Integer(_) | Value::Number(_) => number_of(value)?,
        other => {
            return Err(format!(
                "must be a number of seconds, or a string such as \"500ms\", got {}",
                shown(other)
            ));
        }
    };
    if !seconds.is_finite() {
        return Err(format!("must be finite, got {}", shown(value)));
    }
    if seconds.abs() > MAX_SECONDS {
        return Err(format!(
            "must be at most {MAX_SECONDS}s (about 31 years), got {}",
            shown(value)
        ));
    }
    Ok(seconds)
}

/// A size: a number of bytes, or a text with a unit.
pub(crate) fn size_of(value: &Value) -> Result<u64, String> {
    let size = match value {
        Value::Integer(bytes) => {
            return u64::try_from(*bytes).map_err(|_| format!("must not be negative, got {bytes}"));
        }
        Value::Number(bytes) => units::size_of_number(*bytes),
        Value::String(text) => units::parse_size(&text.to_string_lossy()),
        other => {
            return Err(format!(
                "must be a number of bytes, or a string such as \"256M\", got {}",
                shown(other)
            ));
        }
    };
    size.map_err(|error| error.to_string())
}

/// Longest delay of a frame. A longer one is a number of seconds that was meant as milliseconds.
const MAX_DELAY: Duration = Duration::from_secs(60);

/// A delay of frames: a duration.
pub(crate) fn delay_of(value: &Value) -> Result<Duration, String> {
    at_most_max_delay(value, duration_of(value)?, "a number is seconds")
}

/// A delay of frames: a number of milliseconds, or a duration with a unit.
pub(crate) fn milliseconds_of(value: &Value) -> Result<Duration, String> {
    let delay = match value {
        Value::Integer(_) | Value::Number(_) => {
            let milliseconds = number_of(value)?;
            if !milliseconds.is_finite() {
                return Err(format!("must be finite, got {}", shown(value)));
            }
            let delay = units::duration_of_seconds(milliseconds / 1000.0);
            delay.map_err(|_| format!("must not be negative, got {}", shown(value)))?
        }
        Value::String(text) => {
            let text = text.to_string_lossy();
            if text.trim().parse::<f64>().is_ok() {
                return Err(format!(
                    "{text:?} has no unit; write a number of milliseconds, or a string such as \"20ms\""
                ));
            }
            units::parse_duration(&text).map_err(|error| match error {
                units::DurationError::Malformed(_) => format!(
                    "{text:?} is not a duration; write a number of milliseconds, or a string such as \"20ms\""
                ),
                other => other.to_string(),
            })?
        }
        other => {
            return Err(format!(
                "must be a number of milliseconds, or a string such as \"20ms\", got {}",
                shown(other)
            ));
        }
    };
    at_most_max_delay(value, delay, "a number is milliseconds")
}

fn at_most_max_delay(value: &Value, delay: Duration, unit: &str) -> Result<Duration, String> {
    if delay <= MAX_DELAY {
        return Ok(delay);
    }
    Err(format!(
        "must be at most {}, got {} ({unit}; \"100ms\" says its own)",
        units::format_duration(MAX_DELAY),
        shown(value)
    ))
}

/// A percentage.
pub(crate) fn percent_of(value: &Value) -> Result<f64, String> {
    let percent = match value {
        Value::Integer(_) | Value::Number(_) => number_of(value)?,
        other => {
            return Err(format!(
                "must be a percentage, 0 to 100, got {}",
                shown(other)
            ));
        }
    };
    if !(0.0..=100.0).contains(&percent) {
        return Err(format!(
            "must be a percentage, 0 to 100, got {}",
            shown(value)
        ));
    }
    Ok(percent)
}

/// A bit rate: a number of bits per second, or a text with a unit.
pub(crate) fn bit_rate_of(value: &Value) -> Result<u64, String> {
    let rate = match value {
        Value::Integer(bits) => {
            return u64::try_from(*bits).map_err(|_| format!("must not be negative, got {bits}"));
        }
        Value::Number(bits) => units::bit_rate_of_number(*bits),
        Value::String(text) => units::parse_bit_rate(&text.to_string_lossy()),
        other => {
            return Err(format!(
                "must be a number of bits per second, or a string such as \"10M\", got {}",
                shown(other)
            ));
        }
    };
    rate.map_err(|error| error.to_string())
}

/// Permission bits: an integer from 0 to 0o7777, or a string of octal digits. An integer that was
/// meant as octal digits (`755`) is refused.
pub(crate) fn perm_of(value: &Value) -> Result<u32, String> {
    let bad = || {
        format!(
            "permission bits are 0 to 0o7777 (or an octal string), got {}",
            shown(value)
        )
    };
    let bits = match value {
        Value::String(text) => {
            let text = text.to_string_lossy();
            u32::from_str_radix(text.trim_start_matches("0o"), 8).map_err(|_| bad())?
        }
        other => u32::try_from(integer_of(other)?).map_err(|_| bad())?,
    };
    let is_text = matches!(value, Value::String(_));
    if let (false, Some(octal)) = (is_text, meant_as_octal(bits)) {
        return Err(format!(
            "permission bits {bits} are 0o{bits:o}, and 0o{octal:o} is written \"{octal:04o}\" or 0x{octal:x}: say which"
        ));
    }
    if bits > 0o7777 { Err(bad()) } else { Ok(bits) }
}

/// The permission bits that an author meant who wrote these in decimal digits and forgot that they are
/// octal. `None` unless that reading is usual and the number itself is not.
fn meant_as_octal(bits: u32) -> Option<u32> {
    let digits = bits.to_string();
    let octal = u32::from_str_radix(&digits, 8).ok()?;
    let is_octal = (3..=4).contains(&digits.len()) && is_usual(octal) && !is_usual(bits);
    is_octal.then_some(octal)
}

/// Whether permission bits have the usual form: the owner may read, the group has no more rights than the
/// owner, and others have no more than the group.
fn is_usual(bits: u32) -> bool {
    let (owner, group, other) = ((bits >> 6) & 7, (bits >> 3) & 7, bits & 7);
    let follows = |mine: u32, theirs: u32| {
        mine & !theirs == 0 && (mine == theirs || matches!(mine, 0 | 1 | 4 | 5))
    };
    bits <= 0o7777 && owner & 4 != 0 && follows(group, owner) && follows(other, group)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mlua::Lua;

    fn eval(lua: &Lua, source: &str) -> Value {
        lua.load(source).eval().unwrap()
    }

    #[test]
    fn durations_are_seconds_or_texts() {
        let lua = Lua::new();
        let read = |source| duration_of(&eval(&lua, source));
        for (source, milliseconds) in [
            ("30", 30_000),
            ("0.5", 500),
            ("'500ms'", 500),
            ("'5'", 5000),
        ] {
            let duration = Duration::from_millis(milliseconds);
            assert_eq!(read(source).unwrap(), duration, "{source}");
        }
        for (source, why) in [
            ("0/0", "must be finite"),
            ("1/0", "must be finite"),
            ("-1", "`-1` is negative"),
            ("'-1s'", "`-1s` is negative"),
            ("'5 parsecs'", "`5 parsecs` is not a duration"),
            ("{}", "got a table"),
            ("true", "got the boolean true"),
            ("1e300", "at most 1000000000s"),
            ("10000000000", "at most 1000000000s"),
            ("'10000000000s'", "at most 1000000000s"),
        ] {
            let error = read(source).unwrap_err();
            assert!(error.contains(why), "{source}: {error}");
        }
        let offset = signed_nanoseconds_of(&eval(&lua, "'-1.5s'"));
        assert_eq!(offset.unwrap(), -1_500_000_000);
    }

    #[test]
    fn texts_to_find_are_neither_empty_nor_long() {
        let lua = Lua::new();
        let read = |source| text_to_find_of(&eval(&lua, source));
        assert_eq!(read("'a\\0'").unwrap(), b"a\0");
        assert_eq!(read("('x'):rep(1 << 20)").unwrap().len(), 1 << 20);
        for (source, why) in [
            ("''", "must not be empty"),
            (
                "('x'):rep((1 << 20) + 1)",
                "must be at most 1 MiB long, got 1048577 bytes",
            ),
            ("5", "must be a string, got 5"),
            ("nil", "got nil"),
        ] {
            assert_eq!(
                read(source).map_err(|error| error.contains(why)),
                Err(true),
                "{source}"
            );
        }
    }

    #[test]
    fn sizes_are_bytes_or_texts() {
        let lua = Lua::new();
        let read = |source| size_of(&eval(&lua, source));
        for (source, bytes) in [
            ("4096", 4096),
            ("2^30", 1 << 30),
            ("'1.5G'", 3 << 29),
            ("'4096'", 4096),
        ] {
            assert_eq!(read(source).unwrap(), bytes, "{source}");
        }
        for (source, why) in [
            ("-1", "must not be negative, got -1"),
            ("'x'", "`x` is not a size"),
            ("1.5", "`1.5` is not a whole number of bytes"),
            ("0/0", "is not a size"),
            ("{}", "got a table"),
            ("nil", "got nil"),
        ] {
            let error = read(source).unwrap_err();
            assert!(error.contains(why), "{source}: {error}");
        }
    }

    #[test]
    fn delays_rates_and_percentages_name_their_units() {
        let lua = Lua::new();
        let value = |source| eval(&lua, source);
        let ms = Duration::from_millis;
        assert_eq!(milliseconds_of(&value("20")), Ok(ms(20)));
        assert_eq!(
            milliseconds_of(&value("0.5")),
            Ok(Duration::from_micros(500))
        );
        assert_eq!(milliseconds_of(&value("'1s'")), Ok(ms(1000)));
        assert_eq!(delay_of(&value("0.02")), Ok(ms(20)));
        assert_eq!(delay_of(&value("'20ms'")), Ok(ms(20)));
        assert_eq!(bit_rate_of(&value("'10M'")), Ok(10_000_000));
        assert_eq!(bit_rate_of(&value("1e6")), Ok(1_000_000));
        assert_eq!(percent_of(&value("2.5")), Ok(2.5));
        type Read = fn(&Value) -> Result<(), String>;
        let delay: Read = |value| delay_of(value).map(drop);
        let milliseconds: Read = |value| milliseconds_of(value).map(drop);
        let percent: Read = |value| percent_of(value).map(drop);
        let rate: Read = |value| bit_rate_of(value).map(drop);
        for (read, source, why) in [
            (delay, "100", "at most 60s, got 100 (a number is seconds"),
            (milliseconds, "1e6", "(a number is milliseconds"),
            (milliseconds, "-1", "must not be negative, got -1"),
            (milliseconds, "0/0", "must be finite"),
            (milliseconds, "'20'", "has no unit"),
            (milliseconds, "{}", "got a table"),
            (percent, "101", "0 to 100, got 101"),
            (percent, "0/0", "0 to 100"),
            (percent, "'5'", "0 to 100, got \"5\""),
            (rate, "-1", "must not be negative"),
            (rate, "'10MB'", "`10MB` is not a bit rate"),
            (rate, "true", "got the boolean true"),
        ] {
            let error = read(&value(source)).unwrap_err();
            assert!(error.contains(why), "{source}: {error}");
        }
    }

    #[test]
    fn permission_bits_that_were_meant_as_octal() {
        for meant in [
            "755", "644", "600", "700", "640", "750", "777", "664", "666", "400", "444", "500",
            "555", "440", "660", "770", "775", "711", "1777", "4755",
        ] {
            let number: i64 = meant.parse().unwrap();
            let why = perm_of(&Value::Integer(number)).unwrap_err();
            assert!(why.contains(&format!("\"{meant:0>4}\"")), "{why}");
            assert!(why.contains(&format!("0o{number:o}")), "{why}");
            // What it is written as instead is taken.
            let octal = i64::from_str_radix(meant, 8).unwrap();
            assert_eq!(
                perm_of(&Value::Integer(octal)).unwrap(),
                u32::try_from(octal).unwrap()
            );
        }
        for plain in [0, 1, 4, 7, 8, 64, 0o444, 0o111, 0o222, 0o2755, 0o7777] {
            assert_eq!(
                perm_of(&Value::Integer(plain)).unwrap(),
                u32::try_from(plain).unwrap()
            );
        }
        assert!(perm_of(&Value::Integer(0o10000)).is_err());
    }
}
