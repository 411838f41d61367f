//! Durations, sizes and signals as authors write them.

use crate::binding::text;
use mlua::Value;
use std::time::Duration;

/// Longest duration that is taken, seconds (about 31 years): beyond it clocks overflow.
const LONGEST: f64 = 1e9;

/// A duration: a number of seconds, or a string with `ms`, `s`, `m` or `h`. The error says why not.
pub(crate) fn duration(value: &Value) -> Result<Duration, String> {
    let seconds = signed_seconds(value)?;
    if seconds < 0.0 {
        return Err(format!(
            "a duration must not be negative, got {}",
            shown(value)
        ));
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// A duration that may be negative, nanoseconds.
pub(crate) fn signed_nanoseconds(value: &Value) -> Result<i64, String> {
    let seconds = signed_seconds(value)?;
    let nanoseconds = (seconds * 1e9).round();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "at most 1e18 either way, see LONGEST"
    )]
    Ok(nanoseconds as i64)
}

fn signed_seconds(value: &Value) -> Result<f64, String> {
    #[expect(
        clippy::cast_precision_loss,
        reason = "more than 2^53 seconds is refused below"
    )]
    let seconds = match value {
        Value::Integer(seconds) => *seconds as f64,
        Value::Number(seconds) => *seconds,
        Value::String(text) => parse_seconds(&text.to_string_lossy())?,
        other => {
            return Err(format!(
                "a duration is a number of seconds or a string such as \"500ms\", got {}",
                shown(other)
            ));
        }
    };
    if !seconds.is_finite() {
        return Err(format!("a duration must be finite, got {}", shown(value)));
    }
    if seconds.abs() > LONGEST {
        return Err(format!(
            "a duration is at most 1000000000s (about 31 years), got {}",
            shown(value)
        ));
    }
    Ok(seconds)
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    let bad =
        || format!("bad duration `{text}`: write a number and one of ms, s, m, h, as in \"500ms\"");
    let trimmed = text.trim();
    let digits_end = trimmed
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '-' | '+')))
        .unwrap_or(trimmed.len());
    let (number, suffix) = trimmed.split_at(digits_end);
    let number: f64 = number.parse().map_err(|_| bad())?;
    let scale = match suffix.trim() {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(bad()),
    };
    Ok(number * scale)
}

/// A size in bytes: a number, or a string with K, M, G or T (powers of 1024).
pub(crate) fn size(value: &Value) -> Result<u64, String> {
    let bad = || {
        format!(
            "bad size {}: a number of bytes, or a string such as \"256M\"",
            shown(value)
        )
    };
    let bytes = match value {
        Value::Integer(bytes) => return u64::try_from(*bytes).map_err(|_| bad()),
        Value::Number(bytes) => *bytes,
        Value::String(text) => {
            let text = text.to_string_lossy();
            let trimmed = text
                .trim()
                .trim_end_matches(['B', 'b'])
                .trim_end_matches(['i', 'I']);
            let (number, scale) = match trimmed.chars().last() {
                Some(unit) if unit.is_ascii_alphabetic() => {
                    let power = "KMGT".find(unit.to_ascii_uppercase()).ok_or_else(bad)?;
                    let exponent = u32::try_from(power + 1).map_err(|_| bad())?;
                    (&trimmed[..trimmed.len() - 1], 1024_u64.pow(exponent))
                }
                _ => (trimmed, 1),
            };
            let number = number.trim();
            if let Ok(whole) = number.parse::<u64>() {
                return whole.checked_mul(scale).ok_or_else(bad);
            }
            #[expect(clippy::cast_precision_loss, reason = "a power of 1024 is exact")]
            let scale = scale as f64;
            number.parse::<f64>().map_err(|_| bad())? * scale
        }
        _ => return Err(bad()),
    };
    if !bytes.is_finite() || bytes < 0.0 || bytes.fract() != 0.0 || bytes >= 2f64.powi(63) {
        return Err(bad());
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number from 0 to 2^63"
    )]
    Ok(bytes as u64)
}

/// Signals by name, x86-64 numbers.
const SIGNALS: &[(&str, i32)] = &[
    ("term", 15),
    ("kill", 9),
    ("int", 2),
    ("hup", 1),
    ("quit", 3),
    ("stop", 19),
    ("cont", 18),
    ("usr1", 10),
    ("usr2", 12),
    ("alrm", 14),
    ("pipe", 13),
    ("chld", 17),
    ("winch", 28),
    ("segv", 11),
    ("abrt", 6),
    ("ttin", 21),
    ("ttou", 22),
];

fn signal_number(number: i64) -> Result<i32, String> {
    match i32::try_from(number) {
        Ok(number @ 0..=64) => Ok(number),
        _ => Err(format!("signal number {number} is not one of 0 to 64")),
    }
}

/// A signal: a number, or a name with or without `sig`, any case.
pub(crate) fn signal(value: &Value) -> Result<i32, String> {
    match value {
        Value::Integer(number) => signal_number(*number),
        // Lua's `/` gives a float for whole numbers, too.
        Value::Number(number) if number.fract() == 0.0 && number.abs() < 1000.0 =>
        {
            #[expect(clippy::cast_possible_truncation, reason = "a whole number below 1000")]
            signal_number(*number as i64)
        }
        Value::String(text) => {
            let text = text.to_string_lossy();
            let lower = text.to_lowercase();
            let name = lower.strip_prefix("sig").unwrap_or(&lower);
            let known = SIGNALS.iter().find(|(known, _)| *known == name);
            known
                .map(|(_, number)| *number)
                .ok_or_else(|| format!("unknown signal name `{text}`"))
        }
        Value::Number(_) => match crate::binding::args::integer_of(value) {
            Ok(number) => signal(&Value::Integer(number)),
            Err(_) => Err(format!(
                "a signal is a whole number or a name, got {}",
                shown(value)
            )),
        },
        other => Err(format!(
            "a signal is a number or a name, got {}",
            shown(other)
        )),
    }
}

/// `SIGTERM` for 15; `None` for a number without a name here.
pub(crate) fn signal_name(number: i32) -> Option<String> {
    let found = SIGNALS.iter().find(|(_, known)| *known == number);
    found.map(|(name, _)| format!("SIG{}", name.to_uppercase()))
}

/// A duration as in `timed out after 30s`.
pub(crate) fn spell(duration: Duration) -> String {
    if duration.subsec_nanos() == 0 {
        return format!("{}s", duration.as_secs());
    }
    if duration < Duration::from_secs(1) && duration.subsec_micros().is_multiple_of(1000) {
        return format!("{}ms", duration.as_millis());
    }
    format!("{}s", duration.as_secs_f64())
}

/// A value for a message: its type, and what it holds where that is short.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Nil => "nil".to_owned(),
        Value::Boolean(flag) => format!("the boolean {flag}"),
        Value::Integer(number) => format!("{number}"),
        Value::Number(number) => format!("{number}"),
        Value::String(text) => text::cut(&text::quoted(&text.as_bytes()), 60),
        other => format!("a {}", type_name(other)),
    }
}

/// The author's word for a value's type.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Nil => "nil",
        Value::Boolean(_) => "boolean",
        Value::Integer(_) | Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Table(_) => "table",
        Value::Function(_) => "function",
        Value::Thread(_) => "thread",
        _ => "userdata",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mlua::Lua;

    fn lua_value(lua: &Lua, source: &str) -> Value {
        lua.load(source).eval().unwrap()
    }

    #[test]
    fn durations() {
        let lua = Lua::new();
        let read = |source| duration(&lua_value(&lua, source));
        assert_eq!(read("30").unwrap(), Duration::from_secs(30));
        assert_eq!(read("0.5").unwrap(), Duration::from_millis(500));
        assert_eq!(read("'500ms'").unwrap(), Duration::from_millis(500));
        assert_eq!(read("'1.5s'").unwrap(), Duration::from_millis(1500));
        assert_eq!(read("'2m'").unwrap(), Duration::from_secs(120));
        assert_eq!(read("'1h'").unwrap(), Duration::from_secs(3600));
        for bad in [
            "0/0",
            "1/0",
            "-1",
            "'-1s'",
            "'5'",
            "'5 parsecs'",
            "'ms'",
            "{}",
            "true",
            "1e300",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(read("'5 parsecs'").unwrap_err().contains("5 parsecs"));
        assert!(read("10000000000").unwrap_err().contains("at most"));
        assert!(read("{}").unwrap_err().contains("table"));
        assert_eq!(
            signed_nanoseconds(&lua_value(&lua, "'-1.5s'")).unwrap(),
            -1_500_000_000
        );
    }

    #[test]
    fn sizes() {
        let lua = Lua::new();
        let read = |source| size(&lua_value(&lua, source));
        assert_eq!(read("4096").unwrap(), 4096);
        assert_eq!(read("'256M'").unwrap(), 256 << 20);
        assert_eq!(read("'1.5G'").unwrap(), 3 << 29);
        assert_eq!(read("'2k'").unwrap(), 2048);
        assert_eq!(read("'1T'").unwrap(), 1 << 40);
        for bad in [
            "-1",
            "'x'",
            "'1Q'",
            "1.5",
            "{}",
            "'99999999T'",
            "0/0",
            "nil",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn signals() {
        let lua = Lua::new();
        let read = |source| signal(&lua_value(&lua, source));
        assert_eq!(read("'term'").unwrap(), 15);
        assert_eq!(read("'SIGKILL'").unwrap(), 9);
        assert_eq!(read("'SigUsr1'").unwrap(), 10);
        assert_eq!(read("10").unwrap(), 10);
        assert_eq!(read("18 / 2").unwrap(), 9);
        assert!(read("9.5").unwrap_err().contains("9.5"));
        assert_eq!(read("'frob'").unwrap_err(), "unknown signal name `frob`");
        assert!(read("{}").unwrap_err().contains("table"));
        assert_eq!(signal_name(15).unwrap(), "SIGTERM");
    }

    #[test]
    fn spelled() {
        assert_eq!(spell(Duration::from_secs(30)), "30s");
        assert_eq!(spell(Duration::from_millis(300)), "300ms");
        assert_eq!(spell(Duration::from_millis(1500)), "1.5s");
    }
}
