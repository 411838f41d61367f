//! Provides the kernel modules that a guest requests.

use provium_guest::{AnswerAsk, Answering};
use provium_image::GuestImage;
use provium_protocol::message::{Answer, Ask, ModuleFile};
use std::sync::Arc;

/// Answers the requests of a guest that was booted from `image`.
pub(crate) fn modules_of(image: &GuestImage) -> Arc<dyn AnswerAsk> {
    Arc::new(ImageModules(image.clone()))
}

/// The modules of an image.
struct ImageModules(GuestImage);

impl AnswerAsk for ImageModules {
    fn answer(&self, ask: Ask) -> Answering<'_> {
        let Ask::Module { name } = ask;
        let modules = self.0.modules.clone();
        let read = move || {
            let Some(found) = modules.and_then(|index| index.resolve(&name)) else {
                return Vec::new();
            };
            if found.is_empty() {
                // Built into the kernel, which a module without an object says.
                return vec![ModuleFile {
                    name,
                    object: Vec::new().into(),
                }];
            }
            let files = found.iter().map(|module| {
                let object = module.read().ok()?;
                Some(ModuleFile {
                    name: module.name().to_owned(),
                    object: object.into(),
                })
            });
            files.collect::<Option<Vec<_>>>().unwrap_or_default()
        };
        Box::pin(async move {
            Answer::Modules(tokio::task::spawn_blocking(read).await.unwrap_or_default())
        })
    }
}
