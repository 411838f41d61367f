//! A profile as it is configured, and what it comes to once its files are there.

use super::build_command::{BuildCommand, OUT};
use super::disks;
use super::error::ConfigError;
use super::section::{Document, Section, Span};
use crate::hiargs::shown;
use crate::suggestion::did_you_mean;
use camino::{Utf8Path, Utf8PathBuf};
use provium_lab::{LEAST_MEMORY, Profile};
use provium_vmm::{AccelChoice, CmdlineDefaults};
use std::os::unix::fs::FileTypeExt as _;
use std::sync::Arc;

/// Keys of a profile.
const KEYS: &[&str] = &[
    "kernel",
    "initrd",
    "cmdline",
    "cmdline_file",
    "guest_os",
    "inject_agent",
    "build",
    "build_out",
    "root",
    "root_on",
    "modules",
    "memory",
    "cpus",
    "s3",
    "warm_boot",
    "accel",
    "guest",
    "modules_dir",
    "packages",
    "disks",
    "agent_boot_timeout",
    "ready",
    "cmdline_defaults",
    WITHOUT_USE,
];

/// A key of other harnesses with this API, which has no effect here.
const WITHOUT_USE: &str = "agent_overlay_path";

/// What `[defaults]` says for every profile.
#[derive(Debug, Default)]
pub(super) struct Defaults {
    memory: Option<u64>,
    cpus: Option<u32>,
    accel: Option<AccelChoice>,
    warm_boot: Option<bool>,
}

/// A profile as it is configured.
#[derive(Debug, Clone)]
pub(crate) struct ProfileConfig {
    /// Its name.
    pub(crate) name: String,
    /// The command that makes what it boots from.
    pub(crate) build: Option<BuildCommand>,
    /// The place of a key without use, and what it is.
    pub(crate) without_use: Option<String>,
    pub(super) profile: Profile,
    cmdline_file: Option<Utf8PathBuf>,
    files: Vec<NamedFile>,
    document: Option<Arc<Document>>,
}

/// A file or folder that has to be there before a boot.
#[derive(Debug, Clone)]
struct NamedFile {
    key: &'static str,
    path: Utf8PathBuf,
    span: Span,
    kind: FileKind,
}

/// What has to be at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    File,
    /// A regular file or a block device.
    Image,
    Folder,
    /// A folder, or an archive of it.
    Tree,
}

impl FileKind {
    fn is_at(self, path: &Utf8Path) -> bool {
        match self {
            Self::File => path.is_file(),
            Self::Image => (path.metadata())
                .is_ok_and(|found| found.is_file() || found.file_type().is_block_device()),
            Self::Folder => path.is_dir(),
            Self::Tree => path.is_dir() || path.is_file(),
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Image => "file or block device",
            Self::Folder | Self::Tree => "directory",
        }
    }
}

impl Defaults {
    pub(super) fn read(section: &Section<'_>) -> Result<Self, ConfigError> {
        section.only(&["memory", "cpus", "accel", "warm_boot"])?;
        Ok(Self {
            memory: memory(section)?,
            cpus: section.count("cpus")?.map(|(count, _)| count),
            accel: accel(section)?,
            warm_boot: section.boolean("warm_boot")?.map(|(warm, _)| warm),
        })
    }

    pub(super) fn apply(&self, config: &mut ProfileConfig) {
        let profile = &mut config.profile;
        profile.memory = self.memory.unwrap_or(profile.memory);
        profile.cpus = self.cpus.unwrap_or(profile.cpus);
        profile.accel = self.accel.unwrap_or(profile.accel);
        profile.warm_boot = self.warm_boot.unwrap_or(profile.warm_boot);
    }
}

impl ProfileConfig {
    /// The built-in guest, under that name.
    pub(super) fn built_in(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            build: None,
            without_use: None,
            profile: Profile::default_guest(name),
            cmdline_file: None,
            files: Vec::new(),
            document: None,
        }
    }

    /// Reads the profile `name`. What it boots from is looked at now, unless it is built first.
    pub(super) fn read(
        name: &str,
        section: &Section<'_>,
        defaults: &Defaults,
        cache_dir: &Utf8Path,
    ) -> Result<Self, ConfigError> {
        section.only(KEYS)?;
        let mut config = Self::built_in(name);
        config.document = Some(Arc::clone(section.document()));
        defaults.apply(&mut config);
        config.build = BuildCommand::read(name, section, cache_dir)?;

        if let Some((inject, _)) = section.boolean("inject_agent")? {
            config.profile.inject_agent = inject;
        }
        let source = config.source(name, section)?;
        let own_kernel = source.has_own_kernel();
        let profile = &mut config.profile;
        profile.source = source;
        if own_kernel {
            profile.cmdline = String::new();
            profile.cmdline_defaults = CmdlineDefaults::None;
        }
        match one_of(section, "cmdline_defaults", &["fast", "none"])? {
            Some("fast") => profile.cmdline_defaults = CmdlineDefaults::Fast,
            Some(_) => profile.cmdline_defaults = CmdlineDefaults::None,
            None => (),
        }
        if let Some((cmdline, _)) = section.string("cmdline")? {
            profile.cmdline = folded(&cmdline);
        }
        if let Some(memory) = memory(section)? {
            profile.memory = memory;
        }
        if let Some((cpus, _)) = section.count("cpus")? {
            profile.cpus = cpus;
        }
        if let Some(accel) = accel(section)? {
            profile.accel = accel;
        }
        if let Some((timeout, _)) = section.duration("agent_boot_timeout")? {
            profile.agent_boot_timeout = timeout;
        }
        config.profile.ready = section.string("ready")?.map(|(command, _)| command);
        let profile = &mut config.profile;
        if let Some(modules) = section.strings("modules")? {
            profile.modules = modules.into_iter().map(|(module, _)| module).collect();
        }
        if let Some((s3, _)) = section.boolean("s3")? {
            profile.s3 = s3;
        }
        if let Some((warm, _)) = section.boolean("warm_boot")? {
            profile.warm_boot = warm;
        }
        one_of(section, "guest_os", &["linux", "peios"])?;
        if let Some(span) = section.key_span(WITHOUT_USE) {
            let what = format!(
                "`{WITHOUT_USE}` has no effect: provium carries its agent, and puts it in front of the \
                 initrd; remove the key"
            );
            config.without_use = Some(section.error(span, what).in_one_line());
        }

        let path = |disk: &Section<'_>, key: &str| config.path(disk, key);
        let (disks, files) = disks::read(section, path)?;
        config.profile.disks = disks;
        for disks::DiskFile { key, path, span } in files {
            let kind = match key {
                "folder" => FileKind::Folder,
                "path" => FileKind::Image,
                _ => FileKind::File,
            };
            config.files.push(NamedFile {
                key,
                path,
                span,
                kind,
            });
        }
        if let Some(path) = config.named(section, "cmdline_file", FileKind::File)? {
            config.cmdline_file = Some(path);
            // Without a command line of its own, the file is all of it.
            if section.key_span("cmdline").is_none() {
                config.profile.cmdline = String::new();
            }
        }
        if config.build.is_none() {
            config.resolve()?;
        }
        Ok(config)
    }

    /// The resolved profile. If a file is missing, the profile is unusable, with that as the reason.
    pub(crate) fn resolve(&self) -> Result<Profile, ConfigError> {
        match self.missing() {
            Some(missing) => Ok(Profile {
                unusable: Some(missing.in_one_line()),
                ..self.profile.clone()
            }),
            None => self.complete(),
        }
    }

    /// What it comes to once its build command has run, which has to have made its files.
    pub(crate) fn resolve_built(&self) -> Result<Profile, ConfigError> {
        match self.missing() {
            Some(missing) => Err(missing),
            None => self.complete(),
        }
    }

    /// The first of its files that is not there.
    pub(crate) fn missing(&self) -> Option<ConfigError> {
        let document = self.document.as_ref()?;
        let is_missing = |file: &&NamedFile| !file.kind.is_at(&file.path);
        let NamedFile {
            key,
            path,
            span,
            kind,
        } = self.files.iter().find(is_missing)?;
        let (kind, path) = (kind.word(), (path.exists(), shown(path)));
        let what = match path {
            (true, path) => format!("`{key}`: `{path}` is not a {kind}"),
            (false, path) => format!("`{key}`: {kind} `{path}` does not exist"),
        };
        let mut error = document.error(span.clone(), what);
        if let Some(build) = &self.build {
            error.hint = Some(format!("it should be made by `{}`", build.line));
        }
        Some(error)
    }

    /// What it comes to, all of its files being there.
    fn complete(&self) -> Result<Profile, ConfigError> {
        let Some(document) = &self.document else {
            return Ok(self.profile.clone());
        };
        let mut profile = self.profile.clone();
        if let Some(path) = &self.cmdline_file {
            let span = self.files.iter().find(|file| file.key == "cmdline_file");
            let span = span.map_or(0..0, |file| file.span.clone());
            let text = fs_err::read_to_string(path).map_err(|source| ConfigError {
                source: Some(source),
                ..document.error(span.clone(), "`cmdline_file` cannot be read".to_owned())
            })?;
            let text = folded(&text);
            if text.is_empty() {
                return Err(document.error(span, format!("`cmdline_file`: `{path}` is empty")));
            }
            profile.cmdline = folded(&format!("{text} {}", profile.cmdline));
        }
        if let Some(word) = profile.conflict_in(&profile.cmdline) {
            let what = format!(
                "`{word}` excludes `inject_agent`: the agent has to be the first program to start"
            );
            let span = self.cmdline_span(document);
            let mut error = document.error(span, what);
            error.hint = Some(
                "leave `rdinit=` out (the agent starts the image's own /init), or set \
                 inject_agent = false and start the agent yourself"
                    .to_owned(),
            );
            return Err(error);
        }
        Ok(profile)
    }

    /// What it comes to, without a check that its files exist: a boot checks them.
    pub(crate) fn unresolved(&self) -> Profile {
        self.profile.clone()
    }

    /// A path of the section that has to be there for a boot.
    pub(super) fn named(
        &mut self,
        section: &Section<'_>,
        key: &'static str,
        kind: FileKind,
    ) -> Result<Option<Utf8PathBuf>, ConfigError> {
        let Some((path, span)) = self.path(section, key)? else {
            return Ok(None);
        };
        self.files.push(NamedFile {
            key,
            path: path.clone(),
            span,
            kind,
        });
        Ok(Some(path))
    }

    /// A path of the section, absolute, `{out}` replaced.
    fn path(
        &self,
        section: &Section<'_>,
        key: &str,
    ) -> Result<Option<(Utf8PathBuf, Span)>, ConfigError> {
        let Some((path, span)) = section.string(key)? else {
            return Ok(None);
        };
        let path = match (&self.build, path.contains(OUT)) {
            (Some(build), true) => path.replace(OUT, build.out.as_str()),
            (None, true) => {
                let what = format!("`{OUT}` in `{key}` needs `build` or `build_out`");
                return Err(section.error(span, what));
            }
            (_, false) => path,
        };
        Ok(Some((section.directory().join(path), span)))
    }

    fn cmdline_span(&self, document: &Document) -> Span {
        let file = self.files.iter().find(|file| file.key == "cmdline_file");
        let spans = document.table().ok().and_then(|table| {
            let document = self.document.as_ref()?;
            let top = Section::top(document, &table);
            let own = match top.section("profiles").ok().flatten() {
                Some(profiles) => profiles.section(&self.name).ok().flatten()?,
                None => top,
            };
            own.string_if_any("cmdline").map(|(_, span)| span)
        });
        spans
            .or_else(|| file.map(|file| file.span.clone()))
            .unwrap_or(0..0)
    }
}

/// Guest memory, bytes.
fn memory(section: &Section<'_>) -> Result<Option<u64>, ConfigError> {
    let Some((bytes, span)) = section.size("memory")? else {
        return Ok(None);
    };
    if bytes >= LEAST_MEMORY {
        return Ok(Some(bytes));
    }
    let what = format!("`memory` is {bytes} bytes; a guest needs at least 32M");
    let mut error = section.error(span, what);
    // The number of MiB was meant.
    if (LEAST_MEMORY >> 20..1 << 20).contains(&bytes) {
        error.hint = Some(format!(
            "a number without a unit is in bytes; write `memory = \"{bytes}M\"` for {bytes} MiB"
        ));
    }
    Err(error)
}

fn accel(section: &Section<'_>) -> Result<Option<AccelChoice>, ConfigError> {
    let choice = one_of(section, "accel", &["auto", "kvm", "tcg"])?;
    Ok(choice.map(|choice| match choice {
        "kvm" => AccelChoice::Kvm,
        "tcg" => AccelChoice::Tcg,
        _ => AccelChoice::Auto,
    }))
}

/// The word of `known` that is the value of the key.
pub(super) fn one_of(
    section: &Section<'_>,
    key: &str,
    known: &[&'static str],
) -> Result<Option<&'static str>, ConfigError> {
    let Some((text, span)) = section.string(key)? else {
        return Ok(None);
    };
    match known.iter().find(|word| **word == text) {
        Some(word) => Ok(Some(word)),
        None => {
            let meant = did_you_mean(&text, known.iter().copied());
            Err(section.error(span, format!("`{key}` cannot be `{text}`{meant}")))
        }
    }
}

/// Words with one blank between them.
fn folded(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
