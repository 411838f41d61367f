//! Builds the guest's agent, so that the host's executable can carry it.
//!
//! The agent is another binary for another machine: static, small, without unwinding. Cargo cannot
//! yet depend on such a binary, so a cargo of its own builds it here, in a target folder that all
//! profiles share.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const TARGET: &str = "x86_64-unknown-linux-gnu";
const PROFILE: &str = "agent";
const PACKAGE: &str = "provium-agent";

/// What the agent is made of, from the workspace's root.
const SOURCES: [&str; 5] = [
    "crates/agent/src",
    "crates/agent/Cargo.toml",
    LINKER_SCRIPT,
    "crates/protocol/src",
    "crates/protocol/Cargo.toml",
];

/// What it is linked with beside the linker's own script.
const LINKER_SCRIPT: &str = "crates/agent/link.ld";

/// Variables by which the outer cargo, or a tool around it, would change what is built.
const FOREIGN: [&str; 8] = [
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_TARGET_DIR",
];

fn main() -> Result<(), Box<dyn Error>> {
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let root = here.join("../..").canonicalize()?;

    let mut sources = Vec::new();
    for source in SOURCES {
        let path = root.join(source);
        println!("cargo::rerun-if-changed={}", path.display());
        collect(&path, &mut sources)?;
    }
    for file in ["Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(file).display());
    }
    let build = hash(&root, sources)?;
    println!("cargo::rustc-env=PROVIUM_AGENT_BUILD={build}");

    let target = target_folder(&out);
    let mut cargo = Command::new(env::var("CARGO")?);
    cargo
        .current_dir(&root)
        .args(["build", "--quiet", "--locked", "--package", PACKAGE])
        .args(["--profile", PROFILE, "--target", TARGET, "--target-dir"])
        .arg(&target);
    for name in FOREIGN {
        cargo.env_remove(name);
    }
    let script = root.join(LINKER_SCRIPT);
    let flags = [
        "-Ctarget-feature=+crt-static".to_owned(),
        // Nothing is gained by a random address, and relocations are a thirtieth of the size.
        "-Crelocation-model=static".to_owned(),
        format!("-Clink-arg=-T{}", script.display()),
    ];
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    cargo.env("PROVIUM_BUILD", &build);
    let status = cargo.status()?;
    if !status.success() {
        let hint = format!("the agent does not build; `cargo check -p {PACKAGE}` tells more");
        return Err(hint.into());
    }
    let built = target.join(TARGET).join(PROFILE).join(PACKAGE);
    fs::copy(built, out.join(PACKAGE))?;
    Ok(())
}

/// A folder that stays the same for all profiles, so that the agent is built once for them; cargo
/// locks it. The outer target folder is the one with cargo's tag in it.
fn target_folder(out: &Path) -> PathBuf {
    let outer = out
        .ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").exists());
    match outer {
        Some(outer) => outer.join(PACKAGE),
        // Not the name of the executable, which is copied to `out`.
        None => out.join("agent-target"),
    }
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            collect(&entry?.path(), files)?;
        }
    } else {
        files.push(path.to_owned());
    }
    Ok(())
}

/// One hash over names and contents: host and agent know by it whether they belong together.
fn hash(root: &Path, mut files: Vec<PathBuf>) -> Result<String, Box<dyn Error>> {
    files.sort();
    let mut hasher = blake3::Hasher::new();
    for file in files {
        let name = file.strip_prefix(root)?.to_string_lossy().into_owned();
        let content = fs::read(&file)?;
        for part in [name.as_bytes(), &content] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    Ok(hasher.finalize().to_hex()[..16].to_owned())
}
