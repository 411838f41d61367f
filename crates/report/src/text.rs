//! The shape of texts in reports: margins, tails, durations, sizes.

/// `text` with `by` spaces in front of every line that has something in it, and a line end.
pub(crate) fn indented(text: &str, by: usize) -> String {
    let mut out = String::new();
    for line in text.lines() {
        if !line.is_empty() {
            out.extend(std::iter::repeat_n(' ', by));
            out.push_str(line);
        }
        out.push('\n');
    }
    out
}

/// The last `count` lines, and how many there are before them.
pub(crate) fn tail(text: &str, count: usize) -> (usize, Vec<&str>) {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let skipped = lines.len().saturating_sub(count);
    (skipped, lines.into_iter().skip(skipped).collect())
}

/// A duration in seconds, with so many digits after the point.
pub(crate) fn seconds(duration_ns: u64, digits: usize) -> String {
    let seconds = duration_ns as f64 / 1e9;
    format!("{seconds:.digits$}s")
}

/// A size in the largest binary unit that divides it.
pub(crate) fn size(bytes: u64) -> String {
    let units = [("G", 30_u32), ("M", 20), ("K", 10)];
    for (unit, shift) in units {
        if bytes >= 1 << shift && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_exact() {
        assert_eq!(size(256 << 20), "256M");
        assert_eq!(size(1 << 30), "1G");
        assert_eq!(size(1000), "1000 bytes");
        assert_eq!(size(0), "0 bytes");
    }
}
