//! The distribution's own client, in folders of its own.
//!
//! It uses the system's sources, keys and proxy, but its own lists, cache and an empty package
//! database: so it needs no root, no lists on the machine, and changes nothing on it.

use crate::error::ImageError;
use crate::progress::Progress;
use camino::{Utf8Path, Utf8PathBuf};
use provium_process::{Command, Exit, Output, output};
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::Duration;

const UPDATE_DEADLINE: Duration = Duration::from_secs(600);
const DOWNLOAD_DEADLINE: Duration = Duration::from_secs(1200);
const QUERY_DEADLINE: Duration = Duration::from_secs(60);

/// How often the amount that has been downloaded is reported.
const REPORT_EVERY: Duration = Duration::from_millis(200);

/// Where the system's configuration is.
const SYSTEM_PARTS: &str = "/etc/apt/apt.conf.d";
const SYSTEM_MAIN: &str = "/etc/apt/apt.conf";

/// What of a tool's output is shown, bytes.
const SAID: usize = 600;

/// Settings that win over the system's. `{}` stands for our folder. Hooks of the system are cleared:
/// they are about a system that is not touched here, and would run with this user's rights.
const SETTINGS: &str = r#"#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear AptCli::Hooks;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
#clear DPkg::Pre-Install-Pkgs;
#clear APT::Architectures;
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Sandbox::User "root";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Get::Assume-Yes "true";
APT::Get::List-Cleanup "false";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11-icons::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11-icons-small::DefaultEnabled "false";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
Acquire::IndexTargets::deb-src::Sources::DefaultEnabled "false";
Debug::NoLocking "true";
Dir::State "{}/state";
Dir::State::lists "{}/state/lists";
Dir::State::status "{}/status";
Dir::Cache "{}/cache";
Dir::Cache::archives "{}/cache/archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Dir::Log "{}/log";
"#;

/// The client, set up in a folder.
#[derive(Debug)]
pub(super) struct Apt {
    folder: Utf8PathBuf,
    /// What the update complained of. It calls itself successful even if it got nothing.
    complaints: String,
    progress: Arc<dyn Progress>,
}

impl Apt {
    /// Sets it up in `folder`, which must not exist. It goes away with the folder.
    pub(super) fn set_up(
        folder: Utf8PathBuf,
        progress: Arc<dyn Progress>,
    ) -> Result<Self, ImageError> {
        let apt = Self {
            folder,
            complaints: String::new(),
            progress,
        };
        apt.write_folders()
            .map_err(provium_store::StoreError::from)?;
        Ok(apt)
    }

    fn write_folders(&self) -> std::io::Result<()> {
        let folder = &self.folder;
        for below in [
            "parts",
            "log",
            "state/lists/partial",
            "cache/archives/partial",
            "download",
        ] {
            fs_err::create_dir_all(folder.join(below))?;
        }
        fs_err::write(folder.join("status"), "")?;
        let parts = folder.join("parts");
        // The system's parts in their order, then its main file, then ours.
        for entry in Utf8Path::new(SYSTEM_PARTS)
            .read_dir_utf8()
            .into_iter()
            .flatten()
            .flatten()
        {
            if std::fs::File::open(entry.path()).is_ok() {
                symlink(entry.path(), parts.join(entry.file_name()))?;
            }
        }
        if std::fs::File::open(SYSTEM_MAIN).is_ok() {
            symlink(SYSTEM_MAIN, parts.join("zzzz-main.conf"))?;
        }
        let ours = SETTINGS.replace("{}", folder.as_str());
        fs_err::write(parts.join("zzzzzz-provium.conf"), ours)?;
        let first = format!("Dir::Etc::parts \"{parts}\";\nDir::Etc::main \"/dev/null\";\n");
        fs_err::write(folder.join("apt.conf"), first)
    }

    /// Fetches the lists of packages.
    pub(super) async fn update(&mut self) -> Result<(), ImageError> {
        let output = self
            .run("apt-get", &["-qq", "update"], UPDATE_DEADLINE)
            .await?;
        self.complaints = end_of(&output.stderr);
        Ok(())
    }

    /// Adds to `why` what the update complained of.
    pub(super) fn explain(&self, why: &str) -> String {
        if self.complaints.is_empty() {
            why.to_owned()
        } else {
            format!("{why}; `apt-get update` said: {}", self.complaints)
        }
    }

    /// The packages that the newest version of `package` needs; `None` if the package does not exist.
    pub(super) async fn dependencies(
        &self,
        package: &str,
    ) -> Result<Option<Vec<String>>, ImageError> {
        let arguments = ["show", "--no-all-versions", package];
        match self.run("apt-cache", &arguments, QUERY_DEADLINE).await {
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stdout);
                Ok((!text.trim().is_empty()).then(|| needed(&text)))
            }
            // It fails for a name that it does not know.
            Err(ImageError::ToolFailed { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Fetches exactly these packages; gives their files.
    pub(super) async fn download(
        &self,
        packages: &[String],
    ) -> Result<Vec<Utf8PathBuf>, ImageError> {
        let mut arguments = vec!["-qq", "download"];
        arguments.extend(packages.iter().map(String::as_str));
        self.fetch("download", &arguments).await
    }

    /// Fetches these packages and everything that they need on an empty system.
    pub(super) async fn download_with_needed(
        &self,
        packages: &[String],
    ) -> Result<Vec<Utf8PathBuf>, ImageError> {
        let mut arguments = vec!["-qq", "--download-only", "install", "--"];
        arguments.extend(packages.iter().map(String::as_str));
        self.fetch("cache/archives", &arguments).await
    }

    /// Runs `apt-get` with `arguments`, which downloads packages to the folder `below`; gives their files.
    async fn fetch(&self, below: &str, arguments: &[&str]) -> Result<Vec<Utf8PathBuf>, ImageError> {
        let mut total = None;
        if self.progress.shows_amounts() {
            let list = [&["--print-uris"][..], arguments].concat();
            let list = self.run("apt-get", &list, QUERY_DEADLINE).await;
            total = list.ok().map(|list| listed_bytes(&list.stdout));
        }
        let folder = self.folder.join(below);
        let run = self.run("apt-get", arguments, DOWNLOAD_DEADLINE);
        tokio::pin!(run);
        loop {
            tokio::select! {
                ended = &mut run => {
                    ended?;
                    break;
                }
                () = tokio::time::sleep(REPORT_EVERY) => if let Some(total) = total {
                    self.progress.amount(bytes_in(&folder).min(total), total);
                },
            };
        }
        self.packages_in(below)
    }

    fn packages_in(&self, below: &str) -> Result<Vec<Utf8PathBuf>, ImageError> {
        let folder = self.folder.join(below);
        let failed = |source| ImageError::Read {
            path: folder.clone(),
            source,
        };
        let mut found = Vec::new();
        for entry in folder.read_dir_utf8().map_err(failed)? {
            let path = entry.map_err(failed)?.into_path();
            if path.extension() == Some("deb") {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }

    async fn run(
        &self,
        program: &str,
        arguments: &[&str],
        deadline: Duration,
    ) -> Result<Output, ImageError> {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("APT_CONFIG", self.folder.join("apt.conf").as_str())
            .env("LC_ALL", "C.UTF-8")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .current_dir(self.folder.join("download").as_std_path());
        let line = command.to_line();
        let output = output(command, deadline).await?;
        if output.exit == Exit::Exited(0) {
            return Ok(output);
        }
        let said = [&output.stderr[..], &output.stdout].concat();
        Err(ImageError::ToolFailed {
            command: line,
            how: output.exit.to_string(),
            said: end_of(&said),
        })
    }
}

/// The sum of the sizes in the output of `--print-uris`: `'URI' FILE SIZE HASH`.
fn listed_bytes(list: &[u8]) -> u64 {
    let list = String::from_utf8_lossy(list);
    let sizes = list
        .lines()
        .filter_map(|line| line.split(' ').nth(2)?.parse::<u64>().ok());
    sizes.sum()
}

/// The size of the files in a folder, also of those that are not complete.
fn bytes_in(folder: &Utf8Path) -> u64 {
    let folders = [folder.to_owned(), folder.join("partial")];
    let entries = folders
        .iter()
        .filter_map(|folder| folder.read_dir_utf8().ok());
    let files = entries.flatten().flatten();
    let sizes = files.filter_map(|file| file.metadata().ok().filter(std::fs::Metadata::is_file));
    sizes.map(|metadata| metadata.len()).sum()
}

/// The last lines of what a tool said, as one line.
fn end_of(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let mut kept = Vec::new();
    let mut length = 0;
    for line in text
        .lines()
        .rev()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        length += line.len();
        if length > SAID && !kept.is_empty() {
            break;
        }
        kept.push(line);
    }
    kept.reverse();
    kept.join("; ")
}

/// The names after `Depends:` and `Pre-Depends:` of the first paragraph; of alternatives the first.
fn needed(paragraphs: &str) -> Vec<String> {
    let first = paragraphs.split("\n\n").next().unwrap_or_default();
    let lists = first.lines().filter_map(|line| {
        let (key, list) = line.split_once(':')?;
        matches!(key, "Depends" | "Pre-Depends").then_some(list)
    });
    let names = lists.flat_map(|list| list.split(',')).filter_map(|item| {
        let name = item.split('|').next()?.split_whitespace().next()?;
        Some(name.split(':').next().unwrap_or(name).to_owned())
    });
    names.collect()
}

/// Whether `name` can be asked for: a package's name, with `:arch`, `=version` or `/release` behind
/// it; never an option.
pub(super) fn is_package_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "+.-:=~_/".contains(c);
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.len() <= 200
        && name.chars().all(plain)
        // A trailing sign means something else to apt: to remove, or to install.
        && !name.ends_with(['-', '+'])
        || matches!(name, "g++" | "libstdc++")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_alternative_is_needed() {
        let text = "Package: x\nPre-Depends: libc6 (>= 2.3)\nVersion: 1\n\
            Depends: linux-image-6.1.0-9-amd64 (= 6.1.1-2), a | b, c:any (>= 1)\n\nPackage: old\nDepends: z\n";
        assert_eq!(
            needed(text),
            ["libc6", "linux-image-6.1.0-9-amd64", "a", "c"]
        );
        assert_eq!(needed(""), Vec::<String>::new());
    }

    #[test]
    fn the_size_of_a_download_is_the_sum_of_its_files() {
        let list = b"'http://x/a_1.deb' a_1.deb 100 SHA256:aa\n'http://x/b.deb' b.deb 23 SHA256:bb\nW: no\n";
        assert_eq!(listed_bytes(list), 123);
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        fs_err::create_dir(folder.join("partial")).unwrap();
        fs_err::write(folder.join("a"), "12").unwrap();
        fs_err::write(folder.join("partial/b"), "345").unwrap();
        assert_eq!(bytes_in(folder), 5);
    }

    #[test]
    fn options_are_not_package_names() {
        for good in [
            "e2fsprogs",
            "libc6:amd64",
            "sqlite3=3.40.1-2",
            "g++",
            "bash/stable",
        ] {
            assert!(is_package_name(good), "{good}");
        }
        for bad in [
            "",
            "-o",
            "--purge",
            "a b",
            "x-",
            "x;y",
            "/etc/x.deb",
            "../x",
        ] {
            assert!(!is_package_name(bad), "{bad}");
        }
    }

    #[test]
    fn the_end_of_the_output_is_kept() {
        assert_eq!(end_of(b"W: one\n\n  E: two\n"), "W: one; E: two");
        let long = format!("{}\nlast", "x".repeat(1000));
        assert_eq!(end_of(long.as_bytes()), "last");
    }
}
