//! Keys: what an entry was made from, as one hash.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Hex digits of a key.
const DIGITS: usize = 64;

/// The name of an entry: a BLAKE3 hash in hex.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(String);

impl Key {
    /// The hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A key from its digits; `None` if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (text.len() == DIGITS && text.bytes().all(hex)).then(|| Self(text.to_owned()))
    }
}

impl TryFrom<String> for Key {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("not a key")
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Puts a key together from named parts. Order counts, and no two different lists of parts make the
/// same key.
#[derive(Debug, Clone)]
pub struct KeyBuilder(blake3::Hasher);

impl KeyBuilder {
    /// For entries of this kind.
    pub fn new(kind: &str) -> Self {
        let mut builder = Self(blake3::Hasher::new());
        builder.update(kind.as_bytes());
        builder
    }

    /// Adds a part.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.update(name.as_bytes());
        self.update(value.as_ref());
        self
    }

    /// Adds a number.
    #[must_use]
    pub fn with_number(self, name: &str, value: u64) -> Self {
        self.with(name, value.to_le_bytes())
    }

    /// The key.
    pub fn finish(self) -> Key {
        Key(self.0.finalize().to_hex().to_string())
    }

    /// Each part goes in with its length before it.
    fn update(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        let one = KeyBuilder::new("k").with("ab", "c").finish();
        let other = KeyBuilder::new("k").with("a", "bc").finish();
        assert_ne!(one, other);
        assert_eq!(one, KeyBuilder::new("k").with("ab", "c").finish());
    }

    /// Pinned: another value would make every cache useless.
    #[test]
    fn the_hash_is_the_one_it_was() {
        let key = KeyBuilder::new("guests")
            .with("kernel", "6.1")
            .with_number("cpus", 2)
            .finish();
        assert_eq!(
            key.as_str(),
            "5986658485f20addf635cc685da54c326606b471d4b45e358a6f073a2f9f0918"
        );
    }

    #[test]
    fn only_digits_of_a_hash_are_a_key() {
        let key = KeyBuilder::new("k").finish();
        assert_eq!(Key::parse(key.as_str()), Some(key));
        for bad in [
            "",
            "..",
            "LOCKS",
            &"g".repeat(64),
            &"A".repeat(64),
            &"a".repeat(65),
        ] {
            assert_eq!(Key::parse(bad), None, "{bad}");
        }
    }
}
