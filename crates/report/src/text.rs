//! The shape of texts in reports: margins, tails, durations.

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
