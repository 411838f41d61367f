//! `provium prepare [PROFILE]`: builds what profiles boot from, and unpacks it into the cache, so
//! that the first test does not have to wait for it.

use super::Verdict;
use super::runtime::interruptible;
use crate::failure::Failure;
use crate::hiargs::Place;
use crate::lowargs::PrepareArgs;
use crate::{build, machines, terminal};
use provium_image::{GuestImage, Images};
use provium_lab::{GuestSource, Profile};
use std::collections::BTreeSet;

pub(super) fn run(args: &PrepareArgs) -> Result<Verdict, Failure> {
    let place = Place::new(&args.plain)?;
    let names: BTreeSet<String> = match &args.profile {
        Some(name) => [place.config.profile(name)?.name.clone()].into(),
        None => place
            .config
            .profiles
            .iter()
            .map(|profile| profile.name.clone())
            .collect(),
    };
    interruptible(async {
        let images = machines::images(&place.config.cache_dir)?;
        let profiles = build::profiles(&place.config, Some(&names), args.no_build).await?;
        for profile in profiles
            .iter()
            .filter(|profile| names.contains(&profile.name))
        {
            let image = unpack(&images, profile).await?;
            terminal::out(&format!(
                "profile `{}` is ready: {}\n",
                profile.name, image.kernel
            ));
        }
        Ok(Verdict::Passed)
    })
}

async fn unpack(images: &Images, profile: &Profile) -> Result<GuestImage, Failure> {
    let image = match &profile.source {
        GuestSource::Default { packages } if packages.is_empty() => images.default_guest().await,
        GuestSource::Default { packages } => images.default_guest_with(packages).await,
        GuestSource::Files { kernel, initrd } => images.from_files(kernel, initrd.as_deref()).await,
        GuestSource::Root { dir } => images.from_root(dir).await,
    };
    Ok(image?)
}
