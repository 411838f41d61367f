//! Bit rates.

use crate::number;

/// Units and the numbers of bits per second that they stand for.
const UNITS: [(char, u64); 3] = [('K', 1_000), ('M', 1_000_000), ('G', 1_000_000_000)];
/// From this number on, `f64` cannot represent every rate.
const END_OF_RANGE: f64 = 9_007_199_254_740_992.0;

/// Why a text or a number is not a bit rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// It has another form.
    #[error(
        "`{0}` is not a bit rate: write a number of bits per second, or a number with K, M or G \
         (powers of 1000), such as `10M`"
    )]
    Malformed(String),
    /// It has a fraction of a bit.
    #[error("`{0}` is not a whole number of bits per second")]
    Fraction(String),
    /// It is 2^53 or more.
    #[error("`{0}` is too large for a bit rate")]
    TooLarge(String),
}

/// A bit rate in bits per second, from a text such as `9600`, `10M` or `1.5 G`.
///
/// # Errors
/// The text is not a bit rate, is not a whole number of bits per second, or is too large.
pub fn parse_bit_rate(text: &str) -> Result<u64, RateError> {
    let trimmed = text.trim();
    let unit = trimmed.chars().last().and_then(|last| {
        let letter = last.to_ascii_uppercase();
        UNITS.iter().find(|(unit, _)| *unit == letter)
    });
    let number = match unit {
        Some((_, scale)) => {
            let number = trimmed[..trimmed.len() - 1].trim_end();
            #[expect(clippy::cast_precision_loss, reason = "at most 10^9")]
            number::parse_before_unit(number).map(|number| number * *scale as f64)
        }
        None => number::parse(trimmed),
    };
    let number = number.ok_or_else(|| RateError::Malformed(text.to_owned()))?;
    whole_bits(number, || text.to_owned())
}

/// A bit rate, from a number of bits per second that may come out of a computation, such as `10e6`.
///
/// # Errors
/// The number is negative or not finite, is not whole, or is too large.
pub fn bit_rate_of_number(bits: f64) -> Result<u64, RateError> {
    if !bits.is_finite() || bits < 0.0 {
        return Err(RateError::Malformed(bits.to_string()));
    }
    whole_bits(bits, || bits.to_string())
}

fn whole_bits(bits: f64, shown: impl Fn() -> String) -> Result<u64, RateError> {
    if bits >= END_OF_RANGE {
        return Err(RateError::TooLarge(shown()));
    }
    if bits.fract() != 0.0 {
        return Err(RateError::Fraction(shown()));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number from 0 to 2^53"
    )]
    Ok(bits as u64)
}

/// A bit rate in the largest unit that divides it: `10 Mbit/s`, `1500 bit/s`.
pub fn format_bit_rate(bits: u64) -> String {
    let divides = |(_, scale): &&(char, u64)| bits > 0 && bits.is_multiple_of(*scale);
    match UNITS.iter().rev().find(divides) {
        Some((unit, scale)) => {
            let unit = if *unit == 'K' { 'k' } else { *unit };
            format!("{} {unit}bit/s", bits / scale)
        }
        None => format!("{bits} bit/s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bit_rates_are_numbers_with_a_unit() {
        for (text, bits) in [
            ("0", 0),
            ("9600", 9_600),
            ("10M", 10_000_000),
            ("10 m", 10_000_000),
            (" 1.5G ", 1_500_000_000),
            ("64k", 64_000),
            ("1e6", 1_000_000),
        ] {
            assert_eq!(parse_bit_rate(text), Ok(bits), "{text}");
        }
        assert_eq!(bit_rate_of_number(10e6), Ok(10_000_000));
    }

    #[test]
    fn other_values_are_not_bit_rates() {
        for text in [
            "", "M", "-1", "+1M", "10MB", "1T", "1e3K", "fast", "inf", "ä",
        ] {
            let malformed = RateError::Malformed(text.to_owned());
            assert_eq!(parse_bit_rate(text), Err(malformed), "{text}");
        }
        assert!(matches!(parse_bit_rate("1.5"), Err(RateError::Fraction(_))));
        assert!(matches!(
            parse_bit_rate("1e16"),
            Err(RateError::TooLarge(_))
        ));
        for number in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(
                bit_rate_of_number(number),
                Err(RateError::Malformed(_))
            ));
        }
    }

    #[test]
    fn bit_rates_are_written_exactly() {
        assert_eq!(format_bit_rate(10_000_000), "10 Mbit/s");
        assert_eq!(format_bit_rate(1_500), "1500 bit/s");
        assert_eq!(format_bit_rate(64_000), "64 kbit/s");
        assert_eq!(format_bit_rate(0), "0 bit/s");
    }
}
