//! Finds test files, or fixtures.
//!
//! A directory gives every `*.test.lua` under it; entries whose names begin with a dot are left out,
//! and links to directories are not followed, so that a link upwards ends nowhere. `*.fixture.lua`
//! belongs to the tests that use it, and is looked for separately. Files come
//! sorted, each once, however often it was named.
//!
//! A file is named by its path from the folder in which the user is, so that a name in a report can be
//! opened, and given to the next run; a file outside of that folder by its absolute path.

use crate::address::{Address, Selector};
use crate::error::DiscoverError;
use crate::file_kind::{FIXTURE_SUFFIX, FileKind};
use crate::walk::{DiscoveredFile, not_a_file, walk};
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::BTreeMap;

/// Where to look.
#[derive(Debug, Clone)]
pub struct Request {
    /// For what.
    pub kind: FileKind,
    /// As typed; none means the roots, and where there are none, `base`.
    pub paths: Vec<String>,
    /// The roots of the configuration, absolute.
    pub roots: Vec<Utf8PathBuf>,
    /// What typed paths are relative to, absolute.
    pub base: Utf8PathBuf,
    /// Part of the path relative to the file's root; nothing else is taken.
    pub filter: Option<String>,
}

/// A test file of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestFile {
    /// Where it is.
    pub path: Utf8PathBuf,
    /// Its name in events and reports: relative to [`Request::base`] if it is below that.
    pub display: String,
    /// Its root: what relative paths in it are relative to.
    pub root: Utf8PathBuf,
    /// Where `require` looks.
    pub package_roots: Vec<Utf8PathBuf>,
    /// Only the tests on these lines, or of these names; both empty: all.
    pub lines: Vec<u32>,
    /// Only the tests of these names.
    pub names: Vec<String>,
}

/// The test files of a run, sorted by their display names.
pub fn discover(request: &Request) -> Result<Vec<TestFile>, DiscoverError> {
    let base = canonical(&request.base, request.base.as_str())?;
    let mut roots = Vec::new();
    for root in &request.roots {
        roots.push(canonical(root, root.as_str())?);
    }
    let mut found = BTreeMap::new();
    if request.paths.is_empty() {
        let starts = if roots.is_empty() {
            std::slice::from_ref(&base)
        } else {
            &roots
        };
        for start in starts {
            walk(start, start, request.kind, &mut found)?;
        }
    }
    for typed in &request.paths {
        take_typed(typed, &base, &roots, request.kind, &mut found)?;
    }

    let mut files = Vec::new();
    for (path, found) in found {
        let root = roots
            .iter()
            .filter(|root| path.starts_with(root))
            .max_by_key(|root| root.as_str().len());
        if let Some(part) = &request.filter
            && !relative(&path, root.unwrap_or(&base)).contains(part.as_str())
        {
            continue;
        }
        let mut package_roots = roots.clone();
        if root.is_none() {
            package_roots.extend([found.start, base.clone()]);
            package_roots.dedup();
        }
        let (lines, names) = if found.whole {
            (Vec::new(), Vec::new())
        } else {
            (found.lines, found.names)
        };
        let above = || match path.starts_with(&base) {
            true => base.as_path(),
            false => path.parent().unwrap_or(&path),
        };
        let root = root.map_or_else(above, Utf8PathBuf::as_path).to_owned();
        files.push(TestFile {
            root,
            display: relative(&path, &base),
            path,
            package_roots,
            lines,
            names,
        });
    }
    files.sort_by(|one, other| one.display.cmp(&other.display));
    Ok(files)
}

fn take_typed(
    typed: &str,
    base: &Utf8Path,
    roots: &[Utf8PathBuf],
    kind: FileKind,
    found: &mut BTreeMap<Utf8PathBuf, DiscoveredFile>,
) -> Result<(), DiscoverError> {
    if typed.is_empty() {
        return Err(DiscoverError::Empty);
    }
    let address = Address::parse(typed, |path| base.join(path).exists());
    let given = || address.path.to_owned();
    let path = match (place_of(address.path, base, roots, kind), kind) {
        (Some(path), _) => path,
        (None, _) if base.join(address.path).is_symlink() => {
            return Err(DiscoverError::NotAFile {
                path: given(),
                what: "a link to nothing",
            });
        }
        (None, FileKind::Tests) => return Err(DiscoverError::Missing { path: given() }),
        (None, FileKind::Fixtures) => return Err(DiscoverError::NoFixture { path: given() }),
    };
    let path = canonical(&path, address.path)?;
    if path.is_dir() {
        if address.selector != Selector::Whole {
            return Err(DiscoverError::PlaceInDirectory {
                path: typed.to_owned(),
            });
        }
        return walk(&path, &path, kind, found);
    }
    if !path.as_str().ends_with(kind.suffix()) {
        return Err(match kind {
            FileKind::Fixtures => DiscoverError::NotAFixture { path: given() },
            FileKind::Tests if path.as_str().ends_with(FIXTURE_SUFFIX) => {
                DiscoverError::Fixture { path: given() }
            }
            FileKind::Tests => DiscoverError::NotATest { path: given() },
        });
    }
    if let Some(what) = not_a_file(path.as_std_path()) {
        return Err(DiscoverError::NotAFile {
            path: given(),
            what,
        });
    }
    let start = path.parent().unwrap_or(base).to_owned();
    let entry = found.entry(path).or_insert_with(|| DiscoveredFile {
        start,
        whole: false,
        lines: Vec::new(),
        names: Vec::new(),
    });
    match address.selector {
        Selector::Whole => entry.whole = true,
        Selector::Line(line) => entry.lines.push(line),
        Selector::Test(name) => entry.names.push(name.to_owned()),
    }
    Ok(())
}

/// Where a path is that was typed. A fixture may be called as the tests call it: relative to a root,
/// and without the end of its file's name.
fn place_of(
    typed: &str,
    base: &Utf8Path,
    roots: &[Utf8PathBuf],
    kind: FileKind,
) -> Option<Utf8PathBuf> {
    let plain = base.join(typed);
    if plain.exists() {
        return Some(plain);
    }
    if kind == FileKind::Tests {
        return None;
    }
    let file = format!("{typed}{FIXTURE_SUFFIX}");
    let folders = std::iter::once(base).chain(roots.iter().map(Utf8PathBuf::as_path));
    let mut places = folders.flat_map(|folder| [folder.join(typed), folder.join(&file)]);
    places.find(|place| place.exists())
}

fn relative(path: &Utf8Path, root: &Utf8Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string()
}

fn canonical(path: &Utf8Path, given: &str) -> Result<Utf8PathBuf, DiscoverError> {
    path.canonicalize_utf8()
        .map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => DiscoverError::Missing {
                path: given.to_owned(),
            },
            std::io::ErrorKind::InvalidData => DiscoverError::NotUtf8 {
                path: given.to_owned(),
            },
            _ => DiscoverError::Unreadable {
                path: path.to_owned(),
                source,
            },
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> (tempfile::TempDir, Utf8PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let base = Utf8PathBuf::from_path_buf(dir.path().canonicalize().unwrap()).unwrap();
        for file in files {
            let path = base.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        (dir, base)
    }

    fn request(base: &Utf8Path, paths: &[&str]) -> Request {
        Request {
            kind: FileKind::Tests,
            paths: paths.iter().map(|&path| path.to_owned()).collect(),
            roots: Vec::new(),
            base: base.to_owned(),
            filter: None,
        }
    }

    fn displays(request: &Request) -> Vec<String> {
        discover(request)
            .unwrap()
            .into_iter()
            .map(|file| file.display)
            .collect()
    }

    const FILES: &[&str] = &[
        "b.test.lua",
        "a/z.test.lua",
        "a/web.fixture.lua",
        "a/helper.lua",
        "a/.hidden/x.test.lua",
        "tests/net/b.test.lua",
        "more/net/b.test.lua",
    ];

    #[test]
    fn directories_give_their_tests_sorted_and_once() {
        let (_dir, base) = tree(FILES);
        std::os::unix::fs::symlink(&base, base.join("a/up")).unwrap();
        let all = [
            "a/z.test.lua",
            "b.test.lua",
            "more/net/b.test.lua",
            "tests/net/b.test.lua",
        ];
        assert_eq!(displays(&request(&base, &[])), all);
        assert_eq!(
            displays(&request(&base, &["a", "./a", "a/z.test.lua"])),
            all[..1]
        );
    }

    #[test]
    fn names_are_relative_to_where_the_user_is() {
        let (_dir, base) = tree(FILES);
        let mut asked = request(&base.join("tests"), &[]);
        asked.roots = vec![base.join("tests"), base.join("more")];
        let outside = base.join("more/net/b.test.lua").into_string();
        assert_eq!(displays(&asked), [outside.as_str(), "net/b.test.lua"]);
        asked.base = base.clone();
        assert_eq!(
            displays(&asked),
            ["more/net/b.test.lua", "tests/net/b.test.lua"]
        );
        // The filter is about the path in its root.
        asked.filter = Some("tests/".to_owned());
        assert_eq!(displays(&asked), [""; 0]);
        asked.filter = Some("net/".to_owned());
        assert_eq!(displays(&asked).len(), 2);
    }

    #[test]
    fn special_files_are_named_and_not_opened() {
        let (_dir, base) = tree(&["pipes/a.test.lua", "links/a.test.lua"]);
        let made = std::process::Command::new("mkfifo")
            .arg(base.join("pipes/p.test.lua"))
            .status();
        assert!(made.unwrap().success());
        std::os::unix::fs::symlink("nowhere", base.join("links/l.test.lua")).unwrap();
        let error = |path: &str| discover(&request(&base, &[path])).unwrap_err().to_string();
        for path in ["pipes", "pipes/p.test.lua"] {
            let error = error(path);
            assert!(error.contains("p.test.lua` is a named pipe"), "{error}");
        }
        for path in ["links", "links/l.test.lua"] {
            let error = error(path);
            assert!(
                error.contains("l.test.lua` is a link to nothing"),
                "{error}"
            );
        }
        assert!(error("").contains("empty"), "{}", error(""));
    }

    #[test]
    fn a_folder_that_cannot_be_named_is_reported_if_it_holds_tests() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt as _;
        let (_dir, base) = tree(&["a.test.lua"]);
        let folder = base.as_std_path().join(OsStr::from_bytes(b"odd\xff/deep"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("helper.lua"), "").unwrap();
        assert_eq!(displays(&request(&base, &[])), ["a.test.lua"]);
        std::fs::write(folder.join("b.test.lua"), "").unwrap();
        let error = discover(&request(&base, &[])).unwrap_err().to_string();
        assert!(error.contains("odd\\xff` is not UTF-8"), "{error}");
    }

    #[test]
    fn helpers_are_found_from_the_roots_or_from_where_the_search_began() {
        let (_dir, base) = tree(FILES);
        let mut asked = request(&base, &["tests"]);
        let files = discover(&asked).unwrap();
        assert_eq!(files[0].package_roots, [base.join("tests"), base.clone()]);
        asked.roots = vec![base.join("tests")];
        let files = discover(&asked).unwrap();
        assert_eq!(files[0].package_roots, [base.join("tests")]);
    }

    #[test]
    fn lines_and_names_add_up_and_the_whole_file_wins() {
        let (_dir, base) = tree(FILES);
        let asked = request(
            &base,
            &["b.test.lua:3", "b.test.lua::works", "b.test.lua:9"],
        );
        let file = &discover(&asked).unwrap()[0];
        assert_eq!(
            (&file.lines[..], &file.names[..]),
            (&[3, 9][..], &["works".to_owned()][..])
        );
        let asked = request(&base, &["b.test.lua:3", "b.test.lua"]);
        let file = &discover(&asked).unwrap()[0];
        assert!(file.lines.is_empty() && file.names.is_empty());
    }

    #[test]
    fn paths_of_other_kinds_are_rejected() {
        let (_dir, base) = tree(FILES);
        let error = |path: &str| discover(&request(&base, &[path])).unwrap_err().to_string();
        assert_eq!(error("gone"), "no such file or directory: `gone`");
        assert_eq!(
            error("gone.test.lua:3"),
            "no such file or directory: `gone.test.lua`"
        );
        assert!(error("a/helper.lua").contains("not a test file"));
        assert!(error("a/web.fixture.lua").contains("is a fixture"));
        assert!(error("a:3").contains("only files have lines"));
    }

    #[test]
    fn fixtures_are_found_separately() {
        let (_dir, base) = tree(FILES);
        let mut asked = request(&base, &["a"]);
        asked.kind = FileKind::Fixtures;
        assert_eq!(displays(&asked), ["a/web.fixture.lua"]);
        asked.paths = vec!["a/web.fixture.lua".to_owned()];
        assert_eq!(displays(&asked), ["a/web.fixture.lua"]);
        asked.roots = vec![base.join("a")];
        for typed in ["a/web", "web", "web.fixture.lua"] {
            asked.paths = vec![typed.to_owned()];
            assert_eq!(displays(&asked), ["a/web.fixture.lua"], "{typed}");
        }
        asked.paths = vec!["gone".to_owned()];
        let error = discover(&asked).unwrap_err().to_string();
        assert_eq!(error, "fixture `gone` not found in any test root");
        asked.paths = vec!["b.test.lua".to_owned()];
        let error = discover(&asked).unwrap_err().to_string();
        assert!(error.contains("is not a fixture"), "{error}");
    }
}
