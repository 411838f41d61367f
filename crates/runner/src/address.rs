//! What a path on the command line points at: a file or directory, a line of a file, or a test.

use std::num::NonZeroU32;

/// A path of the command line, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address<'a> {
    pub(crate) path: &'a str,
    pub(crate) selector: Selector<'a>,
}

/// Which part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Selector<'a> {
    Whole,
    Line(u32),
    Test(&'a str),
}

impl<'a> Address<'a> {
    /// Parses `typed`. A path that exists is taken literally, even if its name contains colons.
    pub(crate) fn parse(typed: &'a str, exists: impl Fn(&str) -> bool) -> Self {
        let whole = Self {
            path: typed,
            selector: Selector::Whole,
        };
        if exists(typed) {
            return whole;
        }
        // The path may hold `::` itself, and so may the name: the first cut that leaves a path wins.
        let cuts = typed
            .match_indices("::")
            .map(|(at, _)| (&typed[..at], &typed[at + 2..]));
        let mut cuts = cuts.filter(|(path, name)| !path.is_empty() && !name.is_empty());
        if let Some((path, name)) = cuts.clone().find(|(path, _)| exists(path)) {
            return Self {
                path,
                selector: Selector::Test(name),
            };
        }
        // As reports print places: a line, or a line and a column.
        let number = |text: &'a str| {
            let (path, number) = text.rsplit_once(':').filter(|(path, _)| !path.is_empty())?;
            Some((path, number.parse::<NonZeroU32>().ok()?))
        };
        let last = number(typed);
        let both = last.and_then(|(rest, _)| number(rest));
        let line = last.filter(|(path, _)| exists(path)).or(both).or(last);
        if let Some((path, line)) = line {
            return Self {
                path,
                selector: Selector::Line(line.get()),
            };
        }
        match cuts.next() {
            Some((path, name)) => Self {
                path,
                selector: Selector::Test(name),
            },
            None => whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(typed: &str) -> Address<'_> {
        let there = ["a.test.lua", "b:7", "c::d.test.lua"];
        Address::parse(typed, |path| there.contains(&path))
    }

    #[test]
    fn lines_and_names_are_cut_off_unless_they_belong_to_the_path() {
        let whole = |path| Address {
            path,
            selector: Selector::Whole,
        };
        assert_eq!(parse("a.test.lua"), whole("a.test.lua"));
        assert_eq!(parse("b:7"), whole("b:7"));
        assert_eq!(parse("c::d.test.lua"), whole("c::d.test.lua"));
        assert_eq!(
            parse("a.test.lua:12"),
            Address {
                path: "a.test.lua",
                selector: Selector::Line(12)
            }
        );
        for typed in ["a.test.lua:12:7", "b:7:12"] {
            let address = parse(typed);
            assert_eq!(address.selector, Selector::Line(12), "{typed}");
        }
        assert_eq!(parse("gone:12:7").path, "gone");
        assert_eq!(
            parse("a.test.lua::x::y:3"),
            Address {
                path: "a.test.lua",
                selector: Selector::Test("x::y:3")
            }
        );
        assert_eq!(
            parse("c::d.test.lua::name"),
            Address {
                path: "c::d.test.lua",
                selector: Selector::Test("name")
            }
        );
        assert_eq!(
            parse("gone::name"),
            Address {
                path: "gone",
                selector: Selector::Test("name")
            }
        );
        assert_eq!(parse("a.test.lua:0"), whole("a.test.lua:0"));
        assert_eq!(parse("::x"), whole("::x"));
    }
}
