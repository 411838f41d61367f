//! Debian's packages from a mirror by plain HTTP, for hosts without `apt-get`.
//!
//! ```text
//! Release ◀── signature ── Debian's keys, which are part of this program
//!   └─ SHA-256 ─▶ Packages.xz
//!                   └─ SHA-256 ─▶ each package
//! ```
//!
//! The mirror, the release and its keys can be changed by variables, for hosts with a mirror of their own.

use super::http::{self, Fingerprint, client};
use super::package_index::{Package, PackageIndex, signed_file};
use super::trust;
use crate::blocking::blocking;
use crate::compress::Format;
use crate::error::ImageError;
use crate::progress::Progress;
use camino::{Utf8Path, Utf8PathBuf};
use std::io::Read as _;
use std::sync::Arc;

/// The mirror, its release, and a file with the keys that sign it.
const MIRROR_VARIABLE: &str = "PROVIUM_MIRROR";
const SUITE_VARIABLE: &str = "PROVIUM_MIRROR_SUITE";
const KEYS_VARIABLE: &str = "PROVIUM_MIRROR_KEYS";

const MIRROR: &str = "http://deb.debian.org/debian";
const SUITE: &str = "bookworm";

/// The lists of packages that are read, the best first.
const LISTS: [&str; 2] = [
    "main/binary-amd64/Packages.xz",
    "main/binary-amd64/Packages",
];

/// Largest list of packages, unpacked, bytes.
const LONGEST_LIST: u64 = 1 << 30;

/// Where a mirror is, and whose signature counts.
#[derive(Debug, Clone)]
pub(super) struct MirrorAddress {
    pub(super) url: String,
    suite: String,
    keys: Option<Utf8PathBuf>,
}

/// A mirror, with what was fetched from it in a folder.
#[derive(Debug)]
pub(super) struct Mirror {
    folder: Utf8PathBuf,
    address: MirrorAddress,
    index: PackageIndex,
    client: ureq::Agent,
    progress: Arc<dyn Progress>,
}

impl MirrorAddress {
    pub(super) fn from_environment() -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let url = variable(MIRROR_VARIABLE).unwrap_or_else(|| MIRROR.to_owned());
        Self {
            url: url.trim_end_matches('/').to_owned(),
            suite: variable(SUITE_VARIABLE).unwrap_or_else(|| SUITE.to_owned()),
            keys: variable(KEYS_VARIABLE).map(Utf8PathBuf::from),
        }
    }

    fn keys(&self) -> Result<String, ImageError> {
        match &self.keys {
            None => Ok(trust::DEBIAN_KEYS.to_owned()),
            Some(path) => std::fs::read_to_string(path).map_err(|source| ImageError::Read {
                path: path.clone(),
                source,
            }),
        }
    }
}

impl Mirror {
    /// Sets it up in `folder`, which must not exist.
    pub(super) fn set_up(
        folder: Utf8PathBuf,
        address: MirrorAddress,
        progress: Arc<dyn Progress>,
    ) -> Result<Self, ImageError> {
        if trust::verifier().is_none() {
            return Err(ImageError::NoDownload {
                why: trust::MISSING.to_owned(),
            });
        }
        fs_err::create_dir_all(folder.join("download")).map_err(provium_store::StoreError::from)?;
        Ok(Self {
            folder,
            address,
            index: PackageIndex::default(),
            client: client(),
            progress,
        })
    }

    /// Fetches the list of packages, and checks who signed it.
    pub(super) async fn update(&mut self) -> Result<(), ImageError> {
        let suite = format!("dists/{}", self.address.suite);
        let release = self.fetch_list(&format!("{suite}/Release"), None).await?;
        let signature = self
            .fetch_list(&format!("{suite}/Release.gpg"), None)
            .await?;
        trust::verify(&self.address.keys()?, &signature, &release).await?;
        let text = read_text(&release)?;
        let signed = LISTS
            .iter()
            .find_map(|list| Some((*list, signed_file(&text, list)?)));
        let (list, fingerprint) = signed.ok_or_else(|| ImageError::Fetch {
            url: format!("{}/{suite}/Release", self.address.url),
            why: format!("it lists none of {}", LISTS.join(", ")),
        })?;
        let packages = self
            .fetch_list(&format!("{suite}/{list}"), Some(fingerprint))
            .await?;
        let parsed = blocking(move || {
            let text = match Format::of_name(list) {
                None => read_text(&packages)?,
                Some(format) => unpacked(&packages, format)?,
            };
            Ok(PackageIndex::parse(&text))
        });
        self.index = parsed.await?;
        Ok(())
    }

    /// The packages that `package` needs; `None` if the package does not exist.
    pub(super) fn dependencies(&self, package: &str) -> Option<Vec<String>> {
        self.index.dependencies(package)
    }

    /// Fetches exactly these packages; gives their files.
    pub(super) async fn download(
        &self,
        packages: &[String],
    ) -> Result<Vec<Utf8PathBuf>, ImageError> {
        let missing = |name: &String| ImageError::NoDownload {
            why: format!(
                "{} has no package `{name}` in {}",
                self.address.url, self.address.suite
            ),
        };
        let found = packages
            .iter()
            .map(|name| self.index.get(name).cloned().ok_or_else(|| missing(name)));
        let found = found.collect::<Result<Vec<Package>, _>>()?;
        let (client, progress) = (self.client.clone(), Arc::clone(&self.progress));
        let (url, folder) = (self.address.url.clone(), self.folder.join("download"));
        blocking(move || {
            let total: u64 = found.iter().map(|package| package.file.length).sum();
            let mut done = 0;
            let mut files = Vec::new();
            for Package { path, file, .. } in &found {
                let name = path.rsplit('/').next().unwrap_or(path);
                let to = folder.join(name);
                http::fetch(
                    &client,
                    &format!("{url}/{path}"),
                    &to,
                    Some(file),
                    |count| {
                        done += count;
                        progress.amount(done, total);
                    },
                )?;
                files.push(to);
            }
            files.sort();
            Ok(files)
        })
        .await
    }

    /// Fetches these packages and everything that they need on an empty system.
    pub(super) async fn download_with_needed(
        &self,
        packages: &[String],
    ) -> Result<Vec<Utf8PathBuf>, ImageError> {
        let all = self.index.closure(packages);
        let all = all.map_err(|why| ImageError::NoDownload { why })?;
        self.download(&all).await
    }

    /// Fetches a file of the mirror that is not a package.
    async fn fetch_list(
        &self,
        path: &str,
        fingerprint: Option<Fingerprint>,
    ) -> Result<Utf8PathBuf, ImageError> {
        let url = format!("{}/{path}", self.address.url);
        let name = path.rsplit('/').next().unwrap_or(path);
        let to = self.folder.join(name);
        let (client, file) = (self.client.clone(), to.clone());
        let progress = Arc::clone(&self.progress);
        blocking(move || {
            let mut done = 0;
            http::fetch(&client, &url, &file, fingerprint.as_ref(), |count| {
                done += count;
                if let Some(fingerprint) = &fingerprint {
                    progress.amount(done, fingerprint.length);
                }
            })
        })
        .await?;
        Ok(to)
    }
}

fn read_text(path: &Utf8Path) -> Result<String, ImageError> {
    std::fs::read_to_string(path).map_err(|source| ImageError::Read {
        path: path.to_owned(),
        source,
    })
}

fn unpacked(path: &Utf8Path, format: Format) -> Result<String, ImageError> {
    let failed = |source| ImageError::Read {
        path: path.to_owned(),
        source,
    };
    let packed = std::fs::read(path).map_err(failed)?;
    let mut text = String::new();
    let reader = format.reader(&packed[..]).map_err(failed)?;
    reader
        .take(LONGEST_LIST)
        .read_to_string(&mut text)
        .map_err(failed)?;
    Ok(text)
}
