//! Sizes and durations as people write them, in arguments and in the configuration.

use std::time::Duration;

/// Units of sizes: powers of 1024.
const SIZE_UNITS: &[(char, u32)] = &[('K', 10), ('M', 20), ('G', 30), ('T', 40)];

/// A size in bytes: a whole number, or a number with K, M, G or T.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size; write bytes, or a number with K, M, G or T");
    let trimmed = text.trim();
    let unit = SIZE_UNITS.iter().find_map(|(unit, shift)| {
        let number = trimmed.strip_suffix(*unit)?;
        Some((number, 1_u64 << shift))
    });
    let (number, scale) = unit.unwrap_or((trimmed, 1));
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number
        .checked_mul(scale)
        .ok_or_else(|| format!("`{text}` is larger than any memory"))
}

/// A duration: seconds (fractions allowed), or a number with `ms`, `s`, `m` or `h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("`{text}` is not a duration; write seconds, or a number with ms, s, m or h");
    let trimmed = text.trim();
    let unit = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)]
        .into_iter()
        .find_map(|(unit, scale)| trimmed.strip_suffix(unit).map(|number| (number, scale)));
    let (number, scale) = unit.unwrap_or((trimmed, 1.0));
    if !number.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return Err(wrong());
    }
    let number: f64 = number.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number * scale).map_err(|_| wrong())
}

/// Whether `word` was meant to be one of `known`, as the end of an error: `; did you mean …`.
pub(crate) fn did_you_mean<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str> + Clone,
) -> String {
    match provium_lab::nearest::nearest(word, known.clone()) {
        Some(nearest) => format!("; did you mean `{nearest}`?"),
        None => {
            let all: Vec<&str> = known.into_iter().collect();
            format!("; known are {}", all.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("512M"), Ok(512 << 20));
        assert_eq!(size(" 2G "), Ok(2 << 30));
        for bad in ["", "M", "-1", "1.5G", "1g", "1GB", "99999999T", "0x10"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("300"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "s", "-1", "nan", "inf", "infs", "1d", "1e999", "+1"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
