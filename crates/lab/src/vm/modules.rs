//! Provides the kernel modules that a guest requests.

use provium_guest::{ModuleProvider, ModulesFuture};
use provium_image::GuestImage;
use provium_protocol::message::ModuleFile;
use std::sync::Arc;

/// Provides the kernel modules of a guest that was booted from `image`.
pub(crate) fn modules_of(image: &GuestImage) -> Arc<dyn ModuleProvider> {
    Arc::new(ImageModules(image.clone()))
}

/// The modules of a guest image.
struct ImageModules(GuestImage);

impl ModuleProvider for ImageModules {
    fn modules(&self, name: String) -> ModulesFuture<'_> {
        let modules = self.0.modules.clone();
        let read = move || {
            let Some(found) = modules.and_then(|index| index.resolve(&name)) else {
                return Vec::new();
            };
            if found.is_empty() {
                // Built into the kernel: a module without an object says so.
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
        Box::pin(async move { tokio::task::spawn_blocking(read).await.unwrap_or_default() })
    }
}
