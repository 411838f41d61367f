//! `provium agent PATH`: the guest's agent as an executable file, for images that bring it themselves.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::lowargs::AgentArgs;
use camino::Utf8Path;
use provium_image::AGENT;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;

const PERM: u32 = 0o755;

pub(super) fn run(args: &AgentArgs) -> Result<Exit, Failure> {
    let path = &args.path;
    match write(path) {
        Ok(()) => Ok(Exit::Passed),
        Err(source) => Err(Failure::AgentNotWritten {
            path: path.clone(),
            source,
        }),
    }
}

/// Replaces the file in one step, so that a concurrent build never copies a partial file.
fn write(path: &Utf8Path) -> io::Result<()> {
    if path.is_dir() {
        return Err(io::Error::other(
            "it is a directory; give the path of a file",
        ));
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_str().is_empty() => folder,
        _ => Utf8Path::new("."),
    };
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(AGENT)?;
    file.as_file()
        .set_permissions(std::fs::Permissions::from_mode(PERM))?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_executable_and_replaces_another() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let path = folder.join("init");
        std::fs::write(&path, "older").unwrap();
        write(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), AGENT);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, PERM);
        assert_eq!(
            folder.read_dir().unwrap().count(),
            1,
            "nothing else is left"
        );

        let error = write(folder).unwrap_err().to_string();
        assert!(error.contains("give the path of a file"), "{error}");
        assert!(write(&folder.join("no/such/place")).is_err());
    }
}
