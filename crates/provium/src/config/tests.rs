//! Configurations, right and wrong.

use super::Config;
use crate::failure::Failure;
use camino::Utf8PathBuf;
use provium_image::RootPlacement;
use provium_lab::{DiskOptions, DiskSource, GuestSource};
use provium_vmm::{AccelChoice, CmdlineDefaults};
use std::time::Duration;

struct Project {
    _dir: tempfile::TempDir,
    base: Utf8PathBuf,
}

fn project(files: &[(&str, &str)]) -> Project {
    let dir = tempfile::tempdir().unwrap();
    let base = Utf8PathBuf::from_path_buf(dir.path().canonicalize().unwrap()).unwrap();
    for (path, text) in files {
        let path = base.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    Project { _dir: dir, base }
}

fn load(text: &str) -> (Project, Result<Config, Failure>) {
    let files = [
        ("provium.toml", text),
        ("k", "kernel"),
        ("i", "initrd"),
        ("c", " a\n b "),
        ("e", " "),
    ];
    let project = project(&files);
    let config = Config::load(None, &project.base);
    (project, config)
}

#[test]
fn without_a_file_there_is_the_built_in_guest() {
    let project = project(&[("a.test.lua", "")]);
    let config = Config::load(None, &project.base).unwrap();
    assert!(config.roots.is_empty());
    assert_eq!(config.profiles.len(), 1);
    let profile = config.profile("default").unwrap().resolve().unwrap();
    assert!(matches!(profile.source, GuestSource::Default { .. }));
}

#[test]
fn the_nearest_file_is_taken_and_paths_are_relative_to_it() {
    let project = project(&[
        (
            "provium.toml",
            "[provium]\nroots = [\"tests\"]\ncache_dir = \"cache\"\n",
        ),
        ("tests/net/a.test.lua", ""),
    ]);
    let config = Config::load(None, &project.base.join("tests/net")).unwrap();
    assert_eq!(config.roots, [project.base.join("tests")]);
    assert_eq!(config.cache_dir, project.base.join("cache"));
}

#[test]
fn every_key_is_read() {
    let (project, config) = load(
        r#"
        [provium]
        cache_max_size = "20G"
        slow_after = "2m"
        [defaults]
        memory = "1G"
        cpus = 4
        accel = "tcg"
        warm_boot = true
        [profiles.own]
        kernel = "k"
        initrd = "i"
        cmdline = "quiet   panic=1"
        cmdline_file = "c"
        guest_os = "peios"
        inject_agent = false
        modules = ["btrfs"]
        memory = "512M"
        cpus = 2
        s3 = true
        warm_boot = false
        accel = "kvm"
        agent_boot_timeout = 1.5
        cmdline_defaults = "fast"
        agent_overlay_path = "overlay"
        [profiles.tools]
        guest = "default"
        kernel = "k"
        modules_dir = "."
        packages = ["e2fsprogs", "libstdc++6"]
        cmdline_defaults = "none"
        [profiles.tree]
        root = "."
        [profiles.both]
        root = "."
        initrd = "i"
        "#,
    );
    let config = config.unwrap();
    let names: Vec<&str> = config
        .profiles
        .iter()
        .map(|profile| profile.name.as_str())
        .collect();
    assert_eq!(names, ["own", "tools", "tree", "both", "default"]);

    let own = config.profile("own").unwrap().resolve().unwrap();
    let (kernel, initrd) = (project.base.join("k"), Some(project.base.join("i")));
    let modules_dir = None;
    let files = GuestSource::Files {
        kernel,
        initrd,
        modules_dir,
    };
    assert_eq!(own.source, files);
    assert_eq!(own.cmdline, "a b quiet panic=1");
    assert!(!own.inject_agent && own.s3 && !own.warm_boot);
    assert_eq!(own.modules, ["btrfs"]);
    assert_eq!(
        (own.memory, own.cpus, own.accel),
        (512 << 20, 2, AccelChoice::Kvm)
    );
    assert_eq!(own.agent_boot_timeout, Duration::from_millis(1500));

    let warnings = config.warnings();
    let [overlay] = warnings[..] else {
        panic!("{warnings:?}");
    };
    assert!(
        overlay.starts_with("provium.toml:25:9: `agent_overlay_path` has no effect"),
        "{overlay}"
    );

    let path = project.base.join(".");
    for (name, initrd) in [("tree", None), ("both", Some(project.base.join("i")))] {
        let profile = config.profile(name).unwrap().resolve().unwrap();
        let (path, placement) = (path.clone(), RootPlacement::Auto);
        let source = GuestSource::Root {
            path,
            initrd,
            placement,
        };
        assert_eq!(profile.source, source);
        assert_eq!(profile.cmdline_defaults, CmdlineDefaults::None);
    }
    assert_eq!(own.cmdline_defaults, CmdlineDefaults::Fast);

    let tools = config.profile("tools").unwrap().resolve().unwrap();
    assert_eq!(tools.cmdline_defaults, CmdlineDefaults::None);
    let packages = vec!["e2fsprogs".to_owned(), "libstdc++6".to_owned()];
    let source = GuestSource::Default {
        packages,
        placement: RootPlacement::Memory,
        kernel: Some(project.base.join("k")),
        modules_dir: Some(project.base.join(".")),
    };
    assert_eq!(tools.source, source);
    assert_eq!(
        (tools.memory, tools.cpus, tools.accel),
        (1 << 30, 4, AccelChoice::Tcg)
    );
    assert_eq!(config.slow_after, Duration::from_secs(120));
    let built_in = config.profile("default").unwrap().resolve().unwrap();
    assert_eq!(built_in.memory, 1 << 30);
    assert_eq!(built_in.cmdline_defaults, CmdlineDefaults::Fast);
}

#[test]
fn a_missing_file_makes_the_profile_unusable_and_no_other() {
    let (project, config) = load(
        "[profiles.gone]\nkernel = \"gone\"\n[profiles.line]\nkernel = \"k\"\ncmdline_file = \"g\"\n\
         [profiles.there]\nkernel = \"k\"\n",
    );
    let config = config.unwrap();
    let unusable = |name: &str| config.profile(name).unwrap().resolve().unwrap().unusable;
    let path = project.base.join("gone");
    let why = format!("provium.toml:2:10: `kernel`: file `{path}` does not exist");
    assert_eq!(unusable("gone"), Some(why));
    assert!(unusable("line").unwrap().starts_with("provium.toml:5:16"));
    assert_eq!(unusable("there"), None);
}

#[test]
fn what_is_there_and_cannot_be_a_disk_is_named() {
    let (project, config) = load(
        "[profiles.null]\nkernel = \"k\"\ndisks = [{ id = \"a\", path = \"/dev/null\" }]\n\
         [profiles.file]\nkernel = \"k\"\ndisks = [{ id = \"a\", folder = \"k\" }]\n",
    );
    let config = config.unwrap();
    let unusable = |name: &str| config.profile(name).unwrap().resolve().unwrap().unusable;
    let null = unusable("null").unwrap();
    assert!(
        null.ends_with("`path`: `/dev/null` is not a file or block device"),
        "{null}"
    );
    let file = unusable("file").unwrap();
    let k = project.base.join("k");
    assert!(
        file.ends_with(&format!("`folder`: `{k}` is not a directory")),
        "{file}"
    );
}

#[test]
fn a_build_names_its_folder_and_its_files_may_come_later() {
    let (project, config) =
        load("[profiles.x]\nbuild = \"make OUT={out}\"\nbuild_out = \"o\"\nkernel = \"{out}/k\"\n");
    let config = config.unwrap();
    let profile = config.profile("x").unwrap();
    let out = project.base.join("o");
    assert_eq!(
        profile.build.as_ref().unwrap().line,
        format!("make OUT={out}")
    );
    let before = crate::diagnostics::render(&profile.resolve_built().unwrap_err().into(), false);
    assert!(
        before.contains("it should be made by `make OUT="),
        "{before}"
    );
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("k"), "").unwrap();
    let kernel = out.join("k");
    let source = profile.resolve().unwrap().source;
    assert_eq!(source, under_default(kernel));
}

/// The user space of the built-in guest under that kernel.
fn under_default(kernel: Utf8PathBuf) -> GuestSource {
    GuestSource::Default {
        packages: Vec::new(),
        placement: RootPlacement::Memory,
        kernel: Some(kernel),
        modules_dir: None,
    }
}

#[test]
fn a_kernel_without_an_initrd_gets_the_built_in_user_space() {
    let (project, config) = load(
        r#"
        [profiles.own]
        kernel = "k"
        packages = ["sqlite3"]
        [profiles.alone]
        guest = "none"
        kernel = "k"
        [profiles.bare]
        kernel = "k"
        inject_agent = false
        "#,
    );
    let config = config.unwrap();
    let resolved = |name: &str| config.profile(name).unwrap().resolve().unwrap();
    let own = resolved("own");
    let packages = vec!["sqlite3".to_owned()];
    let (kernel, modules_dir) = (project.base.join("k"), None);
    let source = GuestSource::Default {
        packages,
        placement: RootPlacement::Memory,
        kernel: Some(kernel.clone()),
        modules_dir,
    };
    assert_eq!(own.source, source);
    assert_eq!(
        (own.cmdline.as_str(), own.cmdline_defaults),
        ("", CmdlineDefaults::None)
    );
    let files = GuestSource::Files {
        kernel,
        initrd: None,
        modules_dir: None,
    };
    assert_eq!(resolved("alone").source, files);
    assert_eq!(
        resolved("bare").source,
        files,
        "its kernel brings the agent"
    );
}

#[test]
fn folders_may_hold_profiles() {
    let project = project(&[
        (
            "provium.toml",
            "[profiles]\nfrom_dir = \"p\"\n[profiles.a]\nguest = \"default\"\n",
        ),
        ("p/b/profile.provium.toml", "kernel = \"k\"\n"),
        ("p/b/k", ""),
        ("p/empty/readme", ""),
    ]);
    let config = Config::load(None, &project.base).unwrap();
    let profile = config.profile("b").unwrap().resolve().unwrap();
    let kernel = project.base.join("p/b/k");
    assert_eq!(profile.source, under_default(kernel));
    assert!(config.profile("empty").is_err());

    std::fs::create_dir(project.base.join("p/a")).unwrap();
    std::fs::write(project.base.join("p/a/profile.provium.toml"), "").unwrap();
    let error = Config::load(None, &project.base).unwrap_err().to_string();
    assert_eq!(error, "profile `a` is in `p` and here as well");
    std::fs::write(
        project.base.join("p/b/profile.provium.toml"),
        "kernal = 1\n",
    )
    .unwrap();
    let error = Config::load(None, &project.base).unwrap_err();
    let error = crate::diagnostics::render(&error, false);
    assert!(error.contains("p/b/profile.provium.toml:1:1"), "{error}");
}

#[test]
fn a_wrong_profile_name_names_the_nearest() {
    let (_project, config) = load("[profiles.peios]\nguest = \"default\"\n");
    let error = config.unwrap().profile("poies").unwrap_err().to_string();
    assert_eq!(error, "no profile `poies`; did you mean `peios`?");
}

#[test]
fn what_is_wrong_has_its_place() {
    let wrong = [
        "[provium]\nrots = [\"tests\"]\n",
        "[provium]\nslow_atfer = \"10s\"\n",
        "[provium]\nslow_after = \"soon\"\n",
        "[profiles.x]\nguest = \"default\"\nmemroy = \"1G\"\n",
        "[profiles.x]\nguest = \"default\"\nmemory = \"1X\"\n",
        "[profiles.x]\nguest = \"default\"\nmemory = 256\n",
        "[defaults]\nmemory = \"16M\"\n",
        "[profiles.x]\nguest = \"default\"\ncpus = 0\n",
        "[profiles.x]\nguest = \"default\"\ncpus = \"two\"\n",
        "[profiles.x]\nguest = \"default\"\naccel = \"tgc\"\n",
        "[profiles.x]\nguest = \"default\"\ncmdline = \"\"\n",
        "[profiles.x]\nguest = \"default\"\nroot = \".\"\n",
        "[profiles.x]\nguest = \"default\"\nkernel = \"k\"\ninitrd = \"i\"\n",
        "[profiles.x]\nguest = \"default\"\nmodules_dir = \".\"\n",
        "[profiles.x]\nguest = \"default\"\ninitrd = \"i\"\n",
        "[profiles.x]\nguest = \"default\"\npackages = [\"-x\"]\n",
        "[profiles.x]\nguest = \"none\"\n",
        "[profiles.x]\nguest = \"none\"\nkernel = \"k\"\npackages = [\"x\"]\n",
        "[profiles.x]\nkernel = \"k\"\ninitrd = \"i\"\npackages = [\"x\"]\n",
        "[profiles.x]\nkernel = \"k\"\ncmdline_defaults = \"slow\"\n",
        "[profiles.x]\nkernel = \"k\"\ncmdline_file = \"e\"\n",
        "[profiles.x]\nkernel = \"k\"\ncmdline = \"rdinit=/bin/sh\"\n",
        "[profiles.x]\nkernel = \"{out}/k\"\n",
        "[profiles.x]\ndisks = [{ id = \"a\" }]\n",
        "[profiles.x]\ndisks = [{ path = \"k\", scratch = \"1G\" }]\n",
        "[profiles.x]\ndisks = [{ scratch = 1000 }]\n",
        "[profiles.x]\ndisks = [{ scratch = \"1G\", mount = \"/data\" }]\n",
        "[profiles.x]\ndisks = [{ path = \"k\", mount = \"data\" }]\n",
        "[profiles.x]\ndisks = [{ path = \"k\", id = \"disk1\" }, { path = \"k\" }]\n",
        "[profiles.x]\ndisks = [{ path = \"k\", read_only = true }]\n",
        "[profiles.x]\ndisks = [\"k\"]\n",
        "[profiles.x]\nroot = \".\"\nroot_on = \"floppy\"\n",
        "[profiles.x]\nkernel = \"k\"\nroot_on = \"disk\"\n",
        "[profiles.x]\nroot = \".\"\ninitrd = \"i\"\nroot_on = \"disk\"\n",
        "[profiles.x]\nroot = \"k\"\nroot_on = \"memory\"\n",
        "[profiles.x]\nroot = \"k\"\ninject_agent = false\n",
        "[profiles]\nx = 1\n",
        "[profiles.x]\nbuild_out = \"o\"\n",
        "[provium]\nroots = [\"gone\"]\n",
        "[provium\n",
        "[provium]\nroots = [\"unfinished",
    ];
    let mut all = String::new();
    for text in wrong {
        let (project, config) = load(text);
        let error = crate::diagnostics::render(&config.unwrap_err(), false);
        all.push_str(&error.replace(project.base.as_str(), "PROJECT"));
        all.push('\n');
    }
    insta::assert_snapshot!(all);
}

#[test]
fn a_file_that_was_named_must_be_there() {
    let project = project(&[("x", "")]);
    let error = Config::load(Some("gone.toml".into()), &project.base).unwrap_err();
    let error = crate::diagnostics::render(&error, false);
    assert!(
        error.contains("the configuration `gone.toml` cannot be read"),
        "{error}"
    );
    assert!(error.contains("because:"), "{error}");
}

#[test]
fn disks_and_the_place_of_the_root() {
    let (project, config) = load(
        r#"
        [profiles.disks]
        disks = [
            { path = "k", id = "os", readonly = true },
            { scratch = "1G" },
            { template = "i" },
            { folder = ".", id = "src", mount = "/src" },
        ]
        [profiles.missing]
        disks = [{ folder = "none" }]
        [profiles.archive]
        root = "k"
        [profiles.large]
        root = "."
        root_on = "disk"
        [profiles.own_agent]
        root = "."
        inject_agent = false
        [profiles.packages]
        packages = ["etcd-server"]
        root_on = "disk"
        "#,
    );
    let config = config.unwrap();
    let profile = |name: &str| config.profile(name).unwrap().resolve().unwrap();
    let base = &project.base;
    let scratch = DiskSource::Scratch { size: 1 << 30 };
    let expected = [
        DiskOptions {
            id: Some("os".to_owned()),
            read_only: true,
            ..DiskOptions::new(DiskSource::Path(base.join("k")))
        },
        DiskOptions::new(scratch),
        DiskOptions::new(DiskSource::Template(base.join("i"))),
        DiskOptions {
            id: Some("src".to_owned()),
            mount: Some("/src".to_owned()),
            ..DiskOptions::new(DiskSource::Folder(base.join(".")))
        },
    ];
    assert_eq!(profile("disks").disks, expected);
    let missing = profile("missing").unusable.unwrap();
    assert!(missing.contains("`folder`: directory `"), "{missing}");
    for (name, file, expected) in [
        ("archive", "k", RootPlacement::Auto),
        ("large", ".", RootPlacement::Disk),
        ("own_agent", ".", RootPlacement::Memory),
    ] {
        let GuestSource::Root {
            path, placement, ..
        } = profile(name).source
        else {
            panic!("{name}");
        };
        assert_eq!((path, placement), (base.join(file), expected), "{name}");
    }
    let packages = profile("packages").source;
    let GuestSource::Default { placement, .. } = packages else {
        panic!("{packages:?}");
    };
    assert_eq!(placement, RootPlacement::Disk);
}
