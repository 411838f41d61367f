//! Sizes in bytes.

use crate::number;

/// Units and the powers of two that they stand for.
const UNITS: [(char, u32); 4] = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];
/// From this number on, `f64` cannot represent every size, and `i64` none.
const END_OF_RANGE: f64 = 9_223_372_036_854_775_808.0;

/// Why a text or a number is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// It has another form.
    #[error(
        "`{0}` is not a size: write a number of bytes, or a number with K, M, G or T, such as `256M`"
    )]
    Malformed(String),
    /// It has a fraction of a byte.
    #[error("`{0}` is not a whole number of bytes")]
    Fraction(String),
    /// It does not fit into 63 bits.
    #[error("`{0}` is too large for a size, which is less than 8388608T")]
    TooLarge(String),
}

/// A size in bytes, from a text such as `4096`, `256M` or `1.5 GiB`.
///
/// # Errors
/// The text is not a size, is not a whole number of bytes, or is too large.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let malformed = || SizeError::Malformed(text.to_owned());
    let (number, shift) = split_unit(text.trim());
    let scale = 1_u64 << shift;
    if let (Ok(whole), false) = (number.parse::<u64>(), number.starts_with('+')) {
        let bytes = whole.checked_mul(scale);
        let bytes = bytes.filter(|bytes| i64::try_from(*bytes).is_ok());
        return bytes.ok_or_else(|| SizeError::TooLarge(text.to_owned()));
    }
    let has_unit = number.len() < text.trim().len();
    let number = if has_unit {
        number::parse_before_unit(number)
    } else {
        number::parse(number)
    };
    let number = number.ok_or_else(malformed)?;
    #[expect(clippy::cast_precision_loss, reason = "a power of two is exact")]
    let bytes = number * scale as f64;
    whole_bytes(bytes, || text.to_owned())
}

/// A size in bytes, from a number of bytes that may come out of a computation, such as `2^30`.
///
/// # Errors
/// The number is negative or not finite, is not whole, or is too large.
pub fn size_of_number(bytes: f64) -> Result<u64, SizeError> {
    if !bytes.is_finite() || bytes < 0.0 {
        return Err(SizeError::Malformed(bytes.to_string()));
    }
    whole_bytes(bytes, || bytes.to_string())
}

fn whole_bytes(bytes: f64, shown: impl Fn() -> String) -> Result<u64, SizeError> {
    if bytes >= END_OF_RANGE {
        return Err(SizeError::TooLarge(shown()));
    }
    if bytes.fract() != 0.0 {
        return Err(SizeError::Fraction(shown()));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number from 0 to 2^63"
    )]
    Ok(bytes as u64)
}

/// The number of a size, and the shift that its unit stands for.
fn split_unit(text: &str) -> (&str, u32) {
    let Some((number, b'b' | b'B')) = split_last(text) else {
        return split_letter(text).unwrap_or((text, 0));
    };
    let binary = match split_last(number) {
        Some((shorter, b'i' | b'I')) => split_letter(shorter),
        _ => split_letter(number),
    };
    binary.unwrap_or((number.trim_end(), 0))
}

fn split_letter(text: &str) -> Option<(&str, u32)> {
    let (number, last) = split_last(text)?;
    let letter = char::from(last.to_ascii_uppercase());
    let (_, shift) = UNITS.iter().find(|(unit, _)| *unit == letter)?;
    Some((number.trim_end(), *shift))
}

/// The text without its last byte, which must be ASCII, and that byte.
fn split_last(text: &str) -> Option<(&str, u8)> {
    let last = *text.as_bytes().last()?;
    last.is_ascii().then(|| (&text[..text.len() - 1], last))
}

/// A size in the largest unit that divides it: `256M`, `1000 bytes`.
pub fn format_size(bytes: u64) -> String {
    for (unit, shift) in UNITS.into_iter().rev() {
        if bytes >= 1 << shift && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_numbers_with_a_unit() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("512M", 512 << 20),
            (" 2G ", 2 << 30),
            ("2 G", 2 << 30),
            ("2k", 2048),
            ("1T", 1 << 40),
            ("1.5G", 3 << 29),
            (".5K", 512),
            ("1e3", 1000),
            ("256MB", 256 << 20),
            ("256MiB", 256 << 20),
            ("256mib", 256 << 20),
            ("512B", 512),
            ("9223372036854775807", i64::MAX as u64),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn other_texts_are_not_sizes() {
        for text in [
            "", " ", "M", "B", "iB", "-1", "+1", "1Q", "1X", "256Mi", "512iB", "1GBB", "0x10",
            "inf", "nan", "1e3K", "1_000", "1,5G", "ä", "1ä", "lots",
        ] {
            let malformed = SizeError::Malformed(text.to_owned());
            assert_eq!(parse_size(text), Err(malformed), "{text}");
        }
        for text in ["1.5", "0.3K"] {
            assert_eq!(parse_size(text), Err(SizeError::Fraction(text.to_owned())));
        }
        for text in ["99999999T", "9223372036854775808", "8388608T", "1e300"] {
            assert_eq!(parse_size(text), Err(SizeError::TooLarge(text.to_owned())));
        }
    }

    #[test]
    fn a_computed_number_must_be_whole_bytes() {
        assert_eq!(size_of_number(f64::from(1 << 30)), Ok(1 << 30));
        for number in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(
                size_of_number(number),
                Err(SizeError::Malformed(_))
            ));
        }
        assert_eq!(size_of_number(1.5), Err(SizeError::Fraction("1.5".into())));
        assert!(matches!(size_of_number(1e30), Err(SizeError::TooLarge(_))));
    }

    #[test]
    fn sizes_are_written_exactly() {
        assert_eq!(format_size(256 << 20), "256M");
        assert_eq!(format_size(1 << 30), "1G");
        assert_eq!(format_size(1000), "1000 bytes");
        assert_eq!(format_size(0), "0 bytes");
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "[0-9.eKMGTiB äx+-]{0,12}") {
            let _ = parse_size(&text);
        }

        #[test]
        fn what_is_written_can_be_read(number in 1_u64..1 << 20, shift in 0_u32..43) {
            let text = format_size(number << shift);
            let text = text.trim_end_matches(" bytes");
            prop_assert_eq!(parse_size(text), Ok(number << shift));
        }
    }
}
