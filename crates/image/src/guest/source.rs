//! Where packages come from: the distribution's own client, or Debian's mirror by HTTP where there is none.

use super::apt::Apt;
use super::mirror::{Mirror, MirrorAddress};
use super::trust;
use crate::error::ImageError;
use crate::progress::Progress;
use camino::Utf8PathBuf;
use provium_process::Command;
use std::sync::Arc;

/// A source of packages, set up in a folder.
#[derive(Debug)]
pub(super) enum PackageSource {
    Apt(Apt),
    Mirror(Box<Mirror>),
}

/// What packages would be downloaded with, in words; or what is missing.
pub fn download_tool() -> Result<String, String> {
    if has_apt() {
        return Ok("`apt-get`".to_owned());
    }
    let address = MirrorAddress::from_environment();
    match trust::verifier() {
        Some(verifier) => Ok(format!("HTTP from {} with `{verifier}`", address.url)),
        None => Err(trust::MISSING.to_owned()),
    }
}

fn has_apt() -> bool {
    Command::new("apt-get").resolve().is_ok()
}

impl PackageSource {
    /// Sets it up in `folder`, which must not exist. It goes away with the folder.
    pub(super) fn set_up(
        folder: Utf8PathBuf,
        progress: &Arc<dyn Progress>,
    ) -> Result<Self, ImageError> {
        let progress = Arc::clone(progress);
        if has_apt() {
            return Ok(Self::Apt(Apt::set_up(folder, progress)?));
        }
        let address = MirrorAddress::from_environment();
        let mirror = Mirror::set_up(folder, address, progress)?;
        Ok(Self::Mirror(Box::new(mirror)))
    }

    /// Fetches the lists of packages.
    pub(super) async fn update(&mut self) -> Result<(), ImageError> {
        match self {
            Self::Apt(apt) => apt.update().await,
            Self::Mirror(mirror) => mirror.update().await,
        }
    }

    /// Adds to `why` what the update complained of.
    pub(super) fn explain(&self, why: &str) -> String {
        match self {
            Self::Apt(apt) => apt.explain(why),
            Self::Mirror(_) => why.to_owned(),
        }
    }

    /// The packages that `package` needs; `None` if the package does not exist.
    pub(super) async fn dependencies(
        &self,
        package: &str,
    ) -> Result<Option<Vec<String>>, ImageError> {
        match self {
            Self::Apt(apt) => apt.dependencies(package).await,
            Self::Mirror(mirror) => Ok(mirror.dependencies(package)),
        }
    }

    /// Fetches exactly these packages; gives their files.
    pub(super) async fn download(
        &self,
        packages: &[String],
    ) -> Result<Vec<Utf8PathBuf>, ImageError> {
        match self {
            Self::Apt(apt) => apt.download(packages).await,
            Self::Mirror(mirror) => mirror.download(packages).await,
        }
    }

    /// Fetches these packages and everything that they need on an empty system.
    pub(super) async fn download_with_needed(
        &self,
        packages: &[String],
    ) -> Result<Vec<Utf8PathBuf>, ImageError> {
        match self {
            Self::Apt(apt) => apt.download_with_needed(packages).await,
            Self::Mirror(mirror) => mirror.download_with_needed(packages).await,
        }
    }
}
