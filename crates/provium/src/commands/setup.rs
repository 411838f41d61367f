//! `provium setup`: makes the default guest, or finds that it is there.

use super::runtime::interruptible;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::hiargs::Context;
use crate::lowargs::PlainArgs;
use crate::{machines, terminal};

pub(super) fn run(args: &PlainArgs) -> Result<Exit, Failure> {
    let context = Context::new(args)?;
    let cache_dir = &context.config.cache_dir;
    let guest = interruptible(async {
        let images = machines::images(cache_dir, std::sync::Arc::new(machines::PrintedProgress))?;
        Ok(images.default_guest().await?)
    })?;
    let kernel = &guest.kernel;
    let mut text = format!("the default guest is ready in {cache_dir}\n  kernel {kernel}\n");
    for root in &guest.initrds {
        text.push_str(&format!("  root   {root}\n"));
    }
    terminal::out(&text);
    Ok(Exit::Passed)
}
