//! `provium prepare [PROFILE]`: builds what profiles boot from, and unpacks it into the cache, so
//! that the first test does not have to wait for it.

use super::runtime::interruptible;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::hiargs::Context;
use crate::lowargs::PrepareArgs;
use crate::{build, machines, terminal};
use std::collections::BTreeSet;

pub(super) fn run(args: &PrepareArgs) -> Result<Exit, Failure> {
    let context = Context::new(&args.plain)?;
    let names: BTreeSet<String> = match &args.profile {
        Some(name) => [context.config.profile(name)?.name.clone()].into(),
        None => context
            .config
            .profiles
            .iter()
            .map(|profile| profile.name.clone())
            .collect(),
    };
    interruptible(async {
        let images = machines::images(
            &context.config.cache_dir,
            std::sync::Arc::new(machines::PrintedProgress),
        )?;
        let built = build::profiles(&context.config, &names, args.no_build).await?;
        let mut exit = Exit::Passed;
        for profile in built
            .profiles
            .iter()
            .filter(|profile| names.contains(&profile.name))
        {
            if profile.unusable.is_some() {
                // The warning has said why.
                exit = Exit::Unable;
                continue;
            }
            let image = profile.image(&images).await?;
            terminal::out(&format!(
                "profile `{}` is ready: {}\n",
                profile.name, image.kernel
            ));
        }
        Ok(exit)
    })
}
