//! Durations.

use crate::number;
use std::time::Duration;

/// Units and their seconds. `ms` is before `s`, which it ends in.
const UNITS: [(&str, f64); 4] = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];

/// Why a text or a number is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// It has another form.
    #[error(
        "`{0}` is not a duration: write a number of seconds, or a number with ms, s, m or h, such as \
         `500ms`"
    )]
    Malformed(String),
    /// It is less than 0.
    #[error("`{0}` is negative; a duration is at least 0")]
    Negative(String),
    /// It is more than a [`Duration`] can hold.
    #[error("`{0}` is too long for a duration")]
    TooLong(String),
}

/// A duration, from a text such as `30`, `0.5` or `500ms`.
///
/// # Errors
/// The text is not a duration, is negative, or is longer than 2^64 seconds.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let seconds = parse_seconds(text)?;
    check(seconds, || text.to_owned())
}

/// Seconds, from a text as of [`parse_duration`] that may begin with a sign.
///
/// # Errors
/// The text is not a duration.
pub fn parse_seconds(text: &str) -> Result<f64, DurationError> {
    let trimmed = text.trim();
    let (sign, unsigned) = match trimmed.strip_prefix(['-', '+']) {
        Some(rest) if trimmed.starts_with('-') => (-1.0, rest),
        Some(rest) => (1.0, rest),
        None => (1.0, trimmed),
    };
    let with_unit = UNITS.iter().find_map(|(unit, seconds)| {
        let number = unsigned.strip_suffix(unit)?;
        Some((number.trim_end(), *seconds))
    });
    let seconds = match with_unit {
        Some((number, scale)) => number::parse_before_unit(number).map(|number| number * scale),
        None => number::parse(unsigned),
    };
    let seconds = seconds.ok_or_else(|| DurationError::Malformed(text.to_owned()))?;
    Ok(sign * seconds)
}

/// A duration, from a number of seconds.
///
/// # Errors
/// The number is not a number or infinite, is negative, or is more than 2^64.
pub fn duration_of_seconds(seconds: f64) -> Result<Duration, DurationError> {
    check(seconds, || seconds.to_string())
}

fn check(seconds: f64, shown: impl Fn() -> String) -> Result<Duration, DurationError> {
    if seconds.is_nan() {
        return Err(DurationError::Malformed(shown()));
    }
    if seconds < 0.0 {
        return Err(DurationError::Negative(shown()));
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| DurationError::TooLong(shown()))
}

/// A duration as in `timed out after 1.5s`.
pub fn format_duration(duration: Duration) -> String {
    if duration.subsec_nanos() == 0 {
        return format!("{}s", duration.as_secs());
    }
    if duration < Duration::from_secs(1) && duration.subsec_micros().is_multiple_of(1000) {
        return format!("{}ms", duration.as_millis());
    }
    format!("{}s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_numbers_with_a_unit() {
        for (text, milliseconds) in [
            ("0", 0),
            ("300", 300_000),
            ("0.5", 500),
            (" 500ms ", 500),
            ("500 ms", 500),
            ("1.5s", 1500),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("0.5h", 1_800_000),
            ("+1s", 1000),
            ("1e3", 1_000_000),
        ] {
            let duration = Duration::from_millis(milliseconds);
            assert_eq!(parse_duration(text), Ok(duration), "{text}");
        }
    }

    #[test]
    fn other_texts_are_not_durations() {
        for text in [
            "",
            " ",
            "s",
            "ms",
            "nan",
            "inf",
            "infs",
            "1d",
            "1e2s",
            "5 parsecs",
            "0x1s",
            "--1",
            "1 2",
            "1S",
        ] {
            let malformed = DurationError::Malformed(text.to_owned());
            assert_eq!(parse_duration(text), Err(malformed), "{text}");
        }
        for text in ["-1", "-1s"] {
            let negative = DurationError::Negative(text.to_owned());
            assert_eq!(parse_duration(text), Err(negative));
        }
        for text in ["1e30", "1e999", "99999999999999999999h"] {
            assert_eq!(
                parse_duration(text),
                Err(DurationError::TooLong(text.to_owned()))
            );
        }
    }

    #[test]
    fn seconds_may_have_a_sign() {
        assert_eq!(parse_seconds("-1.5s"), Ok(-1.5));
        assert_eq!(parse_seconds("+2m"), Ok(120.0));
    }

    #[test]
    fn numbers_are_seconds() {
        assert_eq!(duration_of_seconds(0.25), Ok(Duration::from_millis(250)));
        assert!(matches!(
            duration_of_seconds(f64::NAN),
            Err(DurationError::Malformed(_))
        ));
        assert!(matches!(
            duration_of_seconds(f64::INFINITY),
            Err(DurationError::TooLong(_))
        ));
    }

    #[test]
    fn durations_are_written_in_the_unit_that_fits() {
        assert_eq!(format_duration(Duration::ZERO), "0s");
        assert_eq!(format_duration(Duration::from_secs(30)), "30s");
        assert_eq!(format_duration(Duration::from_millis(300)), "300ms");
        assert_eq!(format_duration(Duration::from_millis(1500)), "1.5s");
        assert_eq!(format_duration(Duration::from_micros(1500)), "0.0015s");
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "[0-9.emsh äx+-]{0,12}") {
            let _ = parse_duration(&text);
        }

        #[test]
        fn what_is_written_can_be_read(milliseconds in 0_u64..1 << 32) {
            let duration = Duration::from_millis(milliseconds);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
    }
}
