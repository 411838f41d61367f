//! A test's console excerpt, taken apart into the VMs' own.
//!
//! Each begins with a line `--- console of vm ...`; what stands before the first such line is of a VM
//! without a name.

/// What a line begins with that says whose console follows.
const HEADING: &str = "--- ";

/// Titles and texts, in order; texts that are empty are left out.
pub(crate) fn consoles(excerpt: &str) -> Vec<(&str, String)> {
    let mut found = vec![("console", String::new())];
    for line in excerpt.lines() {
        match line.strip_prefix(HEADING) {
            Some(title) if title.starts_with("console of ") => found.push((title, String::new())),
            _ => {
                if let Some((_, text)) = found.last_mut() {
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
    }
    found.retain(|(_, text)| !text.trim().is_empty());
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_vm_has_its_own() {
        let excerpt = "--- console of vm `web`\none\n--- a line\n--- console of vm `db`\ntwo\n";
        let expected = [
            ("console of vm `web`", "one\n--- a line\n".to_owned()),
            ("console of vm `db`", "two\n".to_owned()),
        ];
        assert_eq!(consoles(excerpt), expected);
        assert_eq!(consoles("login:"), [("console", "login:\n".to_owned())]);
        assert!(consoles("").is_empty());
        assert!(consoles("--- console of vm `web`\n\n").is_empty());
    }
}
