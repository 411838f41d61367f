//! The number before a unit.

/// A decimal number before a unit: without a sign or an exponent, such as `1` or `.5`.
pub(crate) fn parse_before_unit(text: &str) -> Option<f64> {
    if text.contains(['e', 'E']) {
        return None;
    }
    parse(text)
}

/// A decimal number without a sign, which may have a fraction or an exponent: `1`, `.5`, `1.5e3`.
pub(crate) fn parse(text: &str) -> Option<f64> {
    // Excludes `inf`, `nan` and signs, which Rust accepts, too.
    let begins_well = text.starts_with(|first: char| first.is_ascii_digit() || first == '.');
    begins_well.then(|| text.parse().ok()).flatten()
}
