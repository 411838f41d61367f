//! A mirror's lists: what a `Release` signs, and the packages of a `Packages`.
//!
//! Source: the Debian repository format (wiki.debian.org/DebianRepository/Format); Debian policy, 7.1.

use super::http::Fingerprint;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A package of the newest version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Package {
    /// Of its file, from the mirror's root.
    pub(super) path: String,
    pub(super) file: Fingerprint,
    /// Each can be satisfied by any of its names.
    depends: Vec<Vec<String>>,
}

/// The packages of a mirror.
#[derive(Debug, Default)]
pub(super) struct PackageIndex {
    packages: BTreeMap<String, Package>,
    /// The packages that provide a name.
    providers: BTreeMap<String, BTreeSet<String>>,
}

/// The file `path` in the SHA-256 list of a `Release`.
pub(super) fn signed_file(release: &str, path: &str) -> Option<Fingerprint> {
    let list = release.lines().skip_while(|line| *line != "SHA256:");
    let mut entries = list.skip(1).take_while(|line| line.starts_with(' '));
    entries.find_map(|line| {
        let mut words = line.split_whitespace();
        let (sha256, length, name) = (words.next()?, words.next()?, words.next()?);
        (name == path).then(|| Fingerprint {
            length: length.parse().unwrap_or(0),
            sha256: sha256.to_owned(),
        })
    })
}

impl PackageIndex {
    /// Reads a `Packages`. A paragraph that lacks something is left out.
    pub(super) fn parse(text: &str) -> Self {
        let mut index = Self::default();
        for paragraph in text.split("\n\n") {
            index.add(paragraph);
        }
        index
    }

    fn add(&mut self, paragraph: &str) -> Option<()> {
        let fields: BTreeMap<&str, &str> = paragraph
            .lines()
            .filter(|line| !line.starts_with(' '))
            .filter_map(|line| line.split_once(": "))
            .collect();
        let name = fields.get("Package")?;
        let depends = ["Pre-Depends", "Depends"]
            .iter()
            .filter_map(|key| fields.get(key))
            .flat_map(|list| list.split(',').map(alternatives))
            .collect();
        let package = Package {
            path: (*fields.get("Filename")?).to_owned(),
            file: Fingerprint {
                length: fields.get("Size")?.parse().ok()?,
                sha256: (*fields.get("SHA256")?).to_owned(),
            },
            depends,
        };
        for provided in fields
            .get("Provides")
            .into_iter()
            .flat_map(|list| list.split(','))
        {
            for provided in alternatives(provided) {
                let names = self.providers.entry(provided).or_default();
                names.insert((*name).to_owned());
            }
        }
        self.packages.insert((*name).to_owned(), package);
        Some(())
    }

    pub(super) fn get(&self, name: &str) -> Option<&Package> {
        self.packages.get(without_architecture(name))
    }

    /// The names of the packages that `name` needs itself; `None` if the package does not exist.
    pub(super) fn dependencies(&self, name: &str) -> Option<Vec<String>> {
        let depends = self.get(name)?.depends.iter();
        Some(depends.filter_map(|any| self.satisfying(any)).collect())
    }

    /// The names of these packages and of all that they need, sorted; or what is missing.
    pub(super) fn closure(&self, names: &[String]) -> Result<Vec<String>, String> {
        let mut found = BTreeSet::new();
        let mut open: VecDeque<(String, Option<String>)> = names
            .iter()
            .map(|name| (without_architecture(name).to_owned(), None))
            .collect();
        while let Some((name, needed_by)) = open.pop_front() {
            let Some(package) = self.packages.get(&name) else {
                return Err(match needed_by {
                    None => format!("the mirror has no package `{name}`"),
                    Some(by) => format!("`{by}` needs `{name}`, which the mirror does not have"),
                });
            };
            if !found.insert(name.clone()) {
                continue;
            }
            for any in &package.depends {
                let first = any.first().cloned().unwrap_or_default();
                let needed = self.satisfying(any).unwrap_or(first);
                open.push_back((needed, Some(name.clone())));
            }
        }
        Ok(found.into_iter().collect())
    }

    /// The package that satisfies one of several names: the first that exists, or one that provides it.
    fn satisfying(&self, names: &[String]) -> Option<String> {
        names.iter().find_map(|name| {
            if self.packages.contains_key(name) {
                return Some(name.clone());
            }
            self.providers.get(name)?.first().cloned()
        })
    }
}

/// The names in `a (>= 1) | b:any`.
fn alternatives(item: &str) -> Vec<String> {
    let names = item
        .split('|')
        .filter_map(|name| name.split_whitespace().next());
    names
        .map(|name| without_architecture(name).to_owned())
        .collect()
}

fn without_architecture(name: &str) -> &str {
    name.split(':').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELEASE: &str = "Origin: Debian\nMD5Sum:\n 00 1 main/binary-amd64/Packages.xz\nSHA256:\n \
        aa 7 main/binary-amd64/Packages\n bb   12 main/binary-amd64/Packages.xz\nOther: x\n";

    const PACKAGES: &str = "Package: sqlite3\nVersion: 3\nDescription: a\n b\n\
        Depends: libc6 (>= 2.34), libreadline8 (>= 6.0) | libedit2, awk\n\
        Filename: pool/s/sqlite3.deb\nSize: 10\nSHA256: aa\n\n\
        Package: libc6\nPre-Depends: base:any\nDepends: libc6\nFilename: pool/libc6.deb\nSize: 20\nSHA256: bb\n\n\
        Package: libedit2\nFilename: pool/libedit2.deb\nSize: 30\nSHA256: cc\n\n\
        Package: mawk\nProvides: awk (= 1), other\nFilename: pool/mawk.deb\nSize: 40\nSHA256: dd\n\n\
        Package: base\nFilename: pool/base.deb\nSize: 50\nSHA256: ee\n\n\
        Package: broken\nDepends: gone\nFilename: pool/broken.deb\nSize: 60\nSHA256: ff\n\n\
        Package: incomplete\nSize: 60\n";

    #[test]
    fn a_signed_file_is_found_by_its_path() {
        let expected = Fingerprint {
            length: 12,
            sha256: "bb".to_owned(),
        };
        let found = |path| signed_file(RELEASE, path);
        assert_eq!(found("main/binary-amd64/Packages.xz"), Some(expected));
        assert_eq!(found("contrib/binary-amd64/Packages.xz"), None);
        assert_eq!(signed_file("MD5Sum:\n 00 1 x\n", "x"), None);
    }

    #[test]
    fn dependencies_are_followed_through_alternatives_and_providers() {
        let index = PackageIndex::parse(PACKAGES);
        let names = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            index.dependencies("sqlite3"),
            Some(names(&["libc6", "libedit2", "mawk"]))
        );
        assert_eq!(index.dependencies("incomplete"), None);
        assert_eq!(
            index.closure(&names(&["sqlite3:amd64"])),
            Ok(names(&["base", "libc6", "libedit2", "mawk", "sqlite3"]))
        );
        let package = index.get("libc6").unwrap();
        assert_eq!(
            (package.path.as_str(), package.file.length),
            ("pool/libc6.deb", 20)
        );
        let missing = index.closure(&names(&["broken"])).unwrap_err();
        assert_eq!(
            missing,
            "`broken` needs `gone`, which the mirror does not have"
        );
        let missing = index.closure(&names(&["none"])).unwrap_err();
        assert_eq!(missing, "the mirror has no package `none`");
    }
}
