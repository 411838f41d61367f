//! The build command of a profile, as it is configured.

use super::error::ConfigError;
use super::section::Section;
use camino::{Utf8Path, Utf8PathBuf};

/// Stands for the folder that a build command writes to.
pub(super) const OUT: &str = "{out}";

/// A command that makes what a profile boots from.
#[derive(Debug, Clone)]
pub(crate) struct BuildCommand {
    /// For the shell, `{out}` replaced.
    pub(crate) line: String,
    /// The folder that `{out}` stands for.
    pub(crate) out: Utf8PathBuf,
    /// Where it is run.
    pub(crate) directory: Utf8PathBuf,
}

impl BuildCommand {
    /// Reads the command of the profile `name`, if it has one.
    pub(super) fn read(
        name: &str,
        section: &Section<'_>,
        cache_dir: &Utf8Path,
    ) -> Result<Option<Self>, ConfigError> {
        let directory = section.directory().to_owned();
        let out = section
            .string("build_out")?
            .map(|(out, _)| directory.join(out));
        let Some((line, _)) = section.string("build")? else {
            return match section.key_span("build_out") {
                Some(span) => Err(section.error(span, "`build_out` needs `build`".to_owned())),
                None => Ok(None),
            };
        };
        // Of its own for every profile of every project.
        let default_out = || {
            cache_dir
                .join("builds")
                .join(directory.as_str().replace('/', "-"))
                .join(name)
        };
        let out = out.unwrap_or_else(default_out);
        let line = line.replace(OUT, out.as_str());
        Ok(Some(Self {
            line,
            out,
            directory,
        }))
    }
}
