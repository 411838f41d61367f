//! Counts with their nouns.

/// `1 file`, `2 files`: a count and its noun, in the plural unless there is one.
pub fn counted(count: impl Into<u64>, noun: &str) -> String {
    match count.into() {
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_is_singular() {
        assert_eq!(counted(0_u32, "file"), "0 files");
        assert_eq!(counted(1_u32, "file"), "1 file");
        assert_eq!(counted(2_u64, "vCPU"), "2 vCPUs");
    }
}
