//! Small JSON files in which entries and folders describe themselves.

use camino::Utf8Path;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;

/// Longest file that is read, bytes.
const LONGEST: u64 = 16 << 20;

/// Writes a value for people and later versions to read.
///
/// # Errors
/// When the file cannot be written, or the value has no form in JSON.
pub fn write_json(path: &Utf8Path, value: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(value).map_err(io::Error::other)?;
    fs_err::write(path, text)
}

/// The value in a file; `None` if it cannot be read, is too long, or is not such a value. Whether it is of a version
/// that the caller knows is for the caller to check.
pub fn read_json<T: DeserializeOwned>(path: &Utf8Path) -> Option<T> {
    if fs_err::metadata(path).ok()?.len() > LONGEST {
        return None;
    }
    serde_json::from_slice(&fs_err::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_back_and_anything_else_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap().join("a.json");
        assert_eq!(read_json::<Vec<u32>>(&path), None);
        write_json(&path, &vec![1, 2]).unwrap();
        assert_eq!(read_json(&path), Some(vec![1, 2]));
        assert_eq!(read_json::<String>(&path), None);
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(LONGEST + 1).unwrap();
        assert_eq!(read_json::<Vec<u32>>(&path), None);
    }
}
