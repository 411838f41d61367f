//! The word that a mistyped one was probably meant to be.

/// Of `known`, the word nearest to `word`, if one is near enough to be worth naming.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(1) + 1;
    let word = word.to_lowercase();
    // Insertions, deletions, replacements, and swaps of neighbours.
    let distance = |candidate: &str| strsim::osa_distance(&word, &candidate.to_lowercase());
    known
        .into_iter()
        .map(|candidate| (distance(candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_is_near_and_nothing_else() {
        let known = ["memory", "cpus", "kernel_cmdline"];
        assert_eq!(nearest("memroy", known), Some("memory"));
        assert_eq!(nearest("Cpu", known), Some("cpus"));
        assert_eq!(nearest("disks", known), None);
    }
}
