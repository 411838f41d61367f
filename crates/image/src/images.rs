//! Makes images, and caches the parts that take long to make.

use crate::blocking::blocking;
use crate::copies::Copies;
use crate::error::ImageError;
use crate::image::GuestImage;
use crate::initrd::{self, Initrd};
use crate::kernel::{self, Kernel};
use crate::modules::{self, ModuleIndex};
use crate::progress::{Progress, report};
use camino::{Utf8Path, Utf8PathBuf};
use provium_store::{Bucket, Cache, CacheEntry, Key, KeyBuilder};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Versions of the buckets' layouts: raised when what is written to them, or how, changes.
const KERNELS: u32 = 1;
const INITRDS: u32 = 1;
const ROOTS: u32 = 1;
const MODULES: u32 = 1;
const GUESTS: u32 = 1;
pub(crate) const DISKS: u32 = 1;

/// Files in entries.
const VMLINUX: &str = "vmlinux";
pub(crate) const ARCHIVES: &str = "initrd.cpio";
pub(crate) const INDEX: &str = "modules.json";
/// A marker in place of a file that is used unchanged.
const AS_IT_IS: &str = "as-it-is";

/// Makes images, with a cache.
pub struct Images {
    kernels: Bucket,
    initrds: Bucket,
    pub(crate) roots: Bucket,
    modules: Bucket,
    pub(crate) guests: Bucket,
    pub(crate) disks: Bucket,
    /// Where files that are booted from are copied to; `None`: they are booted from in place.
    pub(crate) copies: Option<Copies>,
    pub(crate) cache: Cache,
    pub(crate) progress: Arc<dyn Progress>,
}

impl fmt::Debug for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Images")
            .field("guests", &self.guests)
            .finish_non_exhaustive()
    }
}

/// A file ready to boot from.
pub(crate) struct PreparedFile {
    pub(crate) path: Utf8PathBuf,
    /// The file that the user gave, or its copy.
    pub(crate) given: Utf8PathBuf,
    /// Hash of the file that the user gave.
    pub(crate) hash: Key,
    pub(crate) held: Vec<Arc<CacheEntry>>,
    /// What the kernel says its release is.
    pub(crate) release: Option<String>,
}

impl Images {
    /// Opens the cache in `cache_dir`, and makes it if it does not exist.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn open(cache_dir: &Utf8Path, progress: Arc<dyn Progress>) -> Result<Self, ImageError> {
        let cache = Cache::open(cache_dir)?;
        Ok(Self {
            kernels: cache.bucket("kernels", KERNELS)?,
            initrds: cache.bucket("initrds", INITRDS)?,
            roots: cache.bucket("roots", ROOTS)?,
            modules: cache.bucket("modules", MODULES)?,
            guests: cache.bucket("guests", GUESTS)?,
            disks: cache.bucket("disks", DISKS)?,
            copies: None,
            cache,
            progress,
        })
    }

    /// An image of a kernel and an optional initial RAM file system.
    ///
    /// # Errors
    /// If a file cannot be read or is not what it should be.
    pub async fn from_files(
        &self,
        kernel: &Utf8Path,
        initrd: Option<&Utf8Path>,
    ) -> Result<GuestImage, ImageError> {
        self.from_files_with_modules(kernel, initrd, None).await
    }

    /// As [`from_files`](Self::from_files), with the folder of the kernel's modules: its
    /// `lib/modules/RELEASE`, or a folder in which that is found.
    ///
    /// # Errors
    /// If a file cannot be read or is not what it should be.
    pub async fn from_files_with_modules(
        &self,
        kernel: &Utf8Path,
        initrd: Option<&Utf8Path>,
        modules: Option<&Utf8Path>,
    ) -> Result<GuestImage, ImageError> {
        let (kernel, bytes) = self.read_kernel(kernel).await?;
        let initrd = match initrd {
            Some(path) => Some(self.initrd(path).await?),
            None => None,
        };
        let modules = self.modules_of(&kernel, modules).await?;
        let kernel = self.copied(kernel, bytes).await?;
        let init = if initrd.is_some() {
            vec!["/init".to_owned()]
        } else {
            Vec::new()
        };
        Ok(assemble(
            kernel,
            initrd.into_iter().collect(),
            modules,
            init,
        ))
    }

    /// The image of another guest's user space under that kernel, with the folder of the kernel's modules:
    /// its `lib/modules/RELEASE`, a folder in which that is found, or the one in which the kernel was built.
    /// Without a folder, its modules are looked for in the tree that the kernel's file is in.
    ///
    /// # Errors
    /// If a file cannot be read or is not what it should be.
    pub async fn under_kernel(
        &self,
        guest: GuestImage,
        kernel: &Utf8Path,
        modules: Option<&Utf8Path>,
    ) -> Result<GuestImage, ImageError> {
        let (kernel, bytes) = self.read_kernel(kernel).await?;
        let modules = match modules {
            Some(folder) => self.modules_of(&kernel, Some(folder)).await?,
            None => self.modules_beside(&kernel).await?,
        };
        let kernel = self.copied(kernel, bytes).await?;
        let mut id = KeyBuilder::new("guest under another kernel")
            .with("guest", &guest.id)
            .with("kernel", kernel.hash.as_str());
        if let Some((_, key)) = &modules {
            id = id.with("modules", key.as_str());
        }
        let mut held = guest.held;
        held.extend(kernel.held);
        Ok(GuestImage {
            kernel: kernel.path,
            given_kernel: kernel.given,
            modules: modules.map(|(index, _)| Arc::new(index)),
            id: id.finish().to_string(),
            held,
            ..guest
        })
    }

    /// The modules of a kernel in the folder that a profile names for them.
    async fn modules_of(
        &self,
        kernel: &PreparedFile,
        folder: Option<&Utf8Path>,
    ) -> Result<Option<(ModuleIndex, Key)>, ImageError> {
        let Some(folder) = folder else {
            return Ok(None);
        };
        let release = kernel.release.as_deref();
        let folder = modules::modules_below(folder, release);
        self.modules(&folder, release).await.map(Some)
    }

    /// The modules of a kernel where nothing says where they are: in the tree that its file is in.
    async fn modules_beside(
        &self,
        kernel: &PreparedFile,
    ) -> Result<Option<(ModuleIndex, Key)>, ImageError> {
        let release = kernel.release.as_deref();
        let found = release.and_then(|release| modules::modules_beside(&kernel.given, release));
        match found {
            Some(folder) => self.modules(&folder, release).await.map(Some),
            None => Ok(None),
        }
    }

    /// A kernel, unpacked if it can be.
    pub(crate) async fn kernel(&self, path: &Utf8Path) -> Result<PreparedFile, ImageError> {
        Ok(self.read_kernel(path).await?.0)
    }

    /// A kernel, unpacked if it can be, and the content of its file.
    pub(crate) async fn read_kernel(
        &self,
        path: &Utf8Path,
    ) -> Result<(PreparedFile, Arc<Vec<u8>>), ImageError> {
        let (bytes, hash) = read(path).await?;
        let content = Arc::clone(&bytes);
        let release = kernel::release(&bytes);
        let what = format!("the unpacked kernel of `{path}`");
        let source = path.to_owned();
        let make = |folder: Utf8PathBuf| {
            blocking(move || {
                let found = kernel::inspect(&bytes).map_err(|why| ImageError::NotAKernel {
                    path: source.clone(),
                    why: why.to_string(),
                })?;
                match found {
                    Kernel::Vmlinux(vmlinux) => write(&folder.join(VMLINUX), &vmlinux),
                    Kernel::AsItIs => write(&folder.join(AS_IT_IS), b""),
                }
            })
        };
        let notify = |notice: provium_store::Notice<'_>| report(&*self.progress, &what, notice);
        let entry = self
            .kernels
            .get_or_build::<ImageError, _>(&hash, &notify, make)
            .await?;
        Ok((prepared(path, hash, entry, VMLINUX, release), content))
    }

    pub(crate) async fn initrd(&self, path: &Utf8Path) -> Result<PreparedFile, ImageError> {
        let (bytes, hash) = read(path).await?;
        let content = Arc::clone(&bytes);
        let what = format!("the unpacked `{path}`");
        let source = path.to_owned();
        let make = |folder: Utf8PathBuf| {
            blocking(move || {
                let found = initrd::inspect(&bytes).map_err(|why| ImageError::NotAnInitrd {
                    path: source.clone(),
                    why,
                })?;
                match found {
                    Initrd::Archives(archives) => write(&folder.join(ARCHIVES), &archives),
                    Initrd::AsItIs => write(&folder.join(AS_IT_IS), b""),
                }
            })
        };
        let notify = |notice: provium_store::Notice<'_>| report(&*self.progress, &what, notice);
        let entry = self
            .initrds
            .get_or_build::<ImageError, _>(&hash, &notify, make)
            .await?;
        let file = prepared(path, hash, entry, ARCHIVES, None);
        self.copied(file, content).await
    }

    /// The same, but kernels and initial RAM file systems are copied to the cache where they would be booted
    /// from in place. For files that a build command makes.
    ///
    /// # Errors
    /// If the cache cannot be written.
    pub fn copying_files(mut self) -> Result<Self, ImageError> {
        self.copies = Some(Copies::open(&self.cache)?);
        Ok(self)
    }

    /// The file with a copy of what was given, if files are copied. `bytes` are its content.
    pub(crate) async fn copied(
        &self,
        mut file: PreparedFile,
        bytes: Arc<Vec<u8>>,
    ) -> Result<PreparedFile, ImageError> {
        let Some(copies) = &self.copies else {
            return Ok(file);
        };
        let what = format!("the copy of `{}`", file.given);
        let notify = |notice: provium_store::Notice<'_>| report(&*self.progress, &what, notice);
        let (copy, entry) = copies.copy(&file.hash, bytes, &notify).await?;
        if file.path == file.given {
            file.path.clone_from(&copy);
        }
        file.given = copy;
        file.held.push(Arc::new(entry));
        Ok(file)
    }

    /// The index of a folder of modules.
    pub(crate) async fn modules(
        &self,
        folder: &Utf8Path,
        release: Option<&str>,
    ) -> Result<(ModuleIndex, Key), ImageError> {
        if !folder.is_dir() {
            return Err(ImageError::NotAFolder {
                path: folder.to_owned(),
            });
        }
        let release = release
            .or(folder.file_name())
            .unwrap_or_default()
            .to_owned();
        let source = folder.to_owned();
        let found = blocking(move || modules::listing(&source)).await?;
        let mut key = KeyBuilder::new("modules").with("folder", folder.as_str());
        key = key.with("release", &release);
        for file in &found {
            key = key.with("file", file.facts());
        }
        let key = key.finish();
        let what = format!("the index of `{folder}`");
        let source = folder.to_owned();
        let progress = Arc::clone(&self.progress);
        let make = |entry: Utf8PathBuf| {
            progress.step(&format!("reading {} modules in `{source}`", found.len()));
            blocking(move || {
                let record = modules::scan_folder(&source, &release, &found)?;
                write_index(&entry, &record)
            })
        };
        let notify = |notice: provium_store::Notice<'_>| report(&*self.progress, &what, notice);
        let entry = self
            .modules
            .get_or_build::<ImageError, _>(&key, &notify, make)
            .await?;
        Ok((read_index(&entry, folder)?, key))
    }
}

/// Puts an image together; its id covers all of its parts.
pub(crate) fn assemble(
    kernel: PreparedFile,
    initrds: Vec<PreparedFile>,
    modules: Option<(ModuleIndex, Key)>,
    init: Vec<String>,
) -> GuestImage {
    let mut id = KeyBuilder::new("image").with("kernel", kernel.hash.as_str());
    for initrd in &initrds {
        id = id.with("initrd", initrd.hash.as_str());
    }
    if let Some((_, key)) = &modules {
        id = id.with("modules", key.as_str());
    }
    let held = kernel
        .held
        .iter()
        .chain(initrds.iter().flat_map(|initrd| &initrd.held));
    GuestImage {
        held: held.cloned().collect(),
        kernel: kernel.path,
        given_kernel: kernel.given,
        initrds: initrds.into_iter().map(|initrd| initrd.path).collect(),
        root_disk: None,
        modules: modules.map(|(index, _)| Arc::new(index)),
        init,
        id: id.finish().to_string(),
        layout: Arc::new(OnceLock::new()),
    }
}

/// What an entry holds of a file: the unpacked one, or the word that it is good as it is.
pub(crate) fn prepared(
    path: &Utf8Path,
    hash: Key,
    entry: CacheEntry,
    unpacked: &str,
    release: Option<String>,
) -> PreparedFile {
    let file = entry.file(unpacked);
    if file.is_file() {
        PreparedFile {
            path: file,
            given: path.to_owned(),
            hash,
            held: vec![Arc::new(entry)],
            release,
        }
    } else {
        PreparedFile {
            path: path.to_owned(),
            given: path.to_owned(),
            hash,
            held: Vec::new(),
            release,
        }
    }
}

/// A file's content, and its hash as a key.
async fn read(path: &Utf8Path) -> Result<(Arc<Vec<u8>>, Key), ImageError> {
    let path = path.to_owned();
    blocking(move || {
        let bytes = std::fs::read(&path).map_err(|source| ImageError::Read { path, source })?;
        let hash = KeyBuilder::new("content").with("bytes", &bytes).finish();
        Ok((Arc::new(bytes), hash))
    })
    .await
}

/// Writes a file of an entry.
pub(crate) fn write(path: &Utf8Path, content: &[u8]) -> Result<(), ImageError> {
    fs_err::write(path, content).map_err(|error| provium_store::StoreError::from(error).into())
}

pub(crate) fn write_index(entry: &Utf8Path, record: &modules::Record) -> Result<(), ImageError> {
    let text = serde_json::to_vec(record).map_err(|error| ImageError::Bug {
        what: format!("writing a module index: {error}"),
    })?;
    write(&entry.join(INDEX), &text)
}

/// The index in an entry, whose modules are in `folder`.
pub(crate) fn read_index(entry: &CacheEntry, folder: &Utf8Path) -> Result<ModuleIndex, ImageError> {
    let path = entry.file(INDEX);
    let bytes = std::fs::read(&path).map_err(|source| ImageError::Read {
        path: path.clone(),
        source,
    })?;
    let record = serde_json::from_slice(&bytes).map_err(|error| ImageError::BadModule {
        path,
        why: format!("{error}; remove its folder, it will be made again"),
    })?;
    Ok(ModuleIndex::new(folder.to_owned(), record))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compress::tests::gzip_of;
    use crate::elf::tests::{kernel, module};
    use crate::kernel::around;
    use crate::node::Node;
    use crate::progress::SilentProgress;
    use crate::root_image::RootPlacement;
    use crate::tree::Tree;

    struct Fixture {
        _folder: tempfile::TempDir,
        path: Utf8PathBuf,
        images: Images,
    }

    impl Fixture {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
            let images = Images::open(&path.join("cache"), Arc::new(SilentProgress)).unwrap();
            Self {
                _folder: folder,
                path,
                images,
            }
        }

        fn put(&self, name: &str, content: &[u8]) -> Utf8PathBuf {
            let path = self.path.join(name);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(&path, content).unwrap();
            path
        }
    }

    fn archive() -> Vec<u8> {
        let mut tree = Tree::default();
        tree.put(b"init", Node::file(0o755, *b"#!/bin/sh")).unwrap();
        tree.write_to(Vec::new()).unwrap()
    }

    #[tokio::test]
    async fn kernel_and_initrd_are_unpacked_once() {
        let fixture = Fixture::new();
        let bzimage = fixture.put("bzImage", &around(&gzip_of(&kernel(true))));
        let initrd = fixture.put("initrd.gz", &gzip_of(&archive()));
        let image = fixture
            .images
            .from_files(&bzimage, Some(&initrd))
            .await
            .unwrap();
        assert_eq!(fs_err::read(&image.kernel).unwrap(), kernel(true));
        assert_eq!(fs_err::read(&image.initrds[0]).unwrap(), archive());
        assert_eq!(image.init, ["/init"]);
        assert!(image.modules.is_none());
        let given = image.clone().as_given();
        assert_eq!(given.kernel, bzimage);
        assert_ne!(
            given.id, image.id,
            "another machine, with templates of its own"
        );

        let again = fixture
            .images
            .from_files(&bzimage, Some(&initrd))
            .await
            .unwrap();
        assert_eq!((&again.kernel, &again.id), (&image.kernel, &image.id));
        let alone = fixture.images.from_files(&bzimage, None).await.unwrap();
        assert_ne!(alone.id, image.id);
        assert!(alone.init.is_empty());
    }

    #[tokio::test]
    async fn an_uncompressed_kernel_is_used_in_place() {
        let fixture = Fixture::new();
        let vmlinux = fixture.put("vmlinux", &kernel(true));
        let initrd = fixture.put("initrd.cpio", &archive());
        let image = fixture
            .images
            .from_files(&vmlinux, Some(&initrd))
            .await
            .unwrap();
        assert_eq!(image.kernel, vmlinux);
        assert_eq!(image.clone().as_given().id, image.id);
        assert_eq!(image.initrds, [initrd]);
    }

    #[tokio::test]
    async fn a_wrong_file_is_named() {
        let fixture = Fixture::new();
        let text = fixture.put("text", b"some text");
        let vmlinux = fixture.put("vmlinux", &kernel(true));
        let absent = fixture.path.join("absent");
        for (kernel, initrd, named) in [
            (&text, None, &text),
            (&absent, None, &absent),
            (&vmlinux, Some(&text), &text),
        ] {
            let result = fixture
                .images
                .from_files(kernel, initrd.map(|path| &**path))
                .await;
            let error = result.unwrap_err().to_string();
            assert!(error.contains(named.as_str()), "{error}");
        }
    }

    #[tokio::test]
    async fn a_root_has_its_kernel_modules_and_archive() {
        let fixture = Fixture::new();
        fixture.put("root/boot/vmlinuz-6.1-x", &around(&gzip_of(&kernel(true))));
        fixture.put(
            "root/usr/lib/modules/6.1-x/kernel/a.ko",
            &module(&["name=a"]),
        );
        fixture.put("root/sbin/init", b"#!/bin/sh");
        let root = fixture.path.join("root");
        let image = fixture
            .images
            .from_root(&root, None, RootPlacement::Auto)
            .await
            .unwrap();
        assert_eq!(image.init, ["/init", "/sbin/init"]);
        assert!(image.modules.as_ref().unwrap().resolve("a").is_some());
        let before = fs_err::read(&image.initrds[0]).unwrap();

        let initrd = fixture.put("initrd", &archive());
        let with_initrd = fixture
            .images
            .from_root(&root, Some(&initrd), RootPlacement::Auto)
            .await;
        let with_initrd = with_initrd.unwrap();
        assert_eq!(with_initrd.initrds, [initrd]);
        assert_eq!(with_initrd.init, ["/init"]);
        assert_eq!(with_initrd.kernel, image.kernel);
        assert!(with_initrd.modules.as_ref().unwrap().resolve("a").is_some());
        assert_ne!(with_initrd.id, image.id);

        fixture.put("root/etc/new", b"new");
        let changed = fixture
            .images
            .from_root(&root, None, RootPlacement::Auto)
            .await
            .unwrap();
        assert_ne!(changed.id, image.id);
        assert_ne!(fs_err::read(&changed.initrds[0]).unwrap(), before);
        let error = fixture
            .images
            .from_root(&fixture.path.join("root/etc"), None, RootPlacement::Auto)
            .await
            .unwrap_err();
        assert!(matches!(error, ImageError::NoKernel { .. }));
    }

    #[tokio::test]
    async fn a_guest_runs_under_another_kernel_with_its_modules() {
        let fixture = Fixture::new();
        let vmlinux = fixture.put("vmlinux", &kernel(true));
        let named = [&kernel(true)[..], &[0; 0x300], b"Linux version 6.1-x (y)\0"].concat();
        let own = fixture.put("own", &named);
        let initrd = fixture.put("initrd.cpio", &archive());
        fixture.put("mods/lib/modules/6.1-x/kernel/a.ko", &module(&["name=a"]));
        let (images, mods) = (&fixture.images, fixture.path.join("mods"));
        let guest = images.from_files(&vmlinux, Some(&initrd)).await.unwrap();
        let mut ids = vec![guest.id.clone()];
        for folder in [
            None,
            Some(mods.clone()),
            Some(mods.join("lib/modules/6.1-x")),
        ] {
            let image = images.under_kernel(guest.clone(), &own, folder.as_deref());
            let image = image.await.unwrap();
            assert_eq!((&image.kernel, &image.initrds), (&own, &guest.initrds));
            let found = image
                .modules
                .as_ref()
                .map(|index| index.resolve("a").is_some());
            assert_eq!(found, folder.map(|_| true));
            ids.push(image.id);
        }
        assert_eq!(ids[2], ids[3], "the same modules");
        ids.dedup();
        assert_eq!(ids.len(), 3);

        // In a tree of its own, the kernel's modules are found without being named.
        let installed = fixture.put("mods/boot/vmlinuz", &named);
        let image = images.under_kernel(guest, &installed, None).await.unwrap();
        assert!(image.modules.unwrap().resolve("a").is_some());
    }

    /// Machines are booted in tasks that may move between threads.
    #[test]
    fn images_are_made_in_any_task() {
        fn sent(_: impl Send) {}
        let fixture = Fixture::new();
        let images = &fixture.images;
        sent(images.default_guest());
        sent(images.default_guest_with(&[], RootPlacement::Auto));
        sent(images.from_root(&fixture.path, None, RootPlacement::Auto));
        sent(images.from_files(&fixture.path, None));
    }
}
