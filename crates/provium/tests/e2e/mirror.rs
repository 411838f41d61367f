//! The default guest and packages from a mirror by HTTP, on a host without `apt-get`.
//!
//! The mirror is on this host, signed by a key of its own, and has the kernel and busybox of the user's
//! default guest. `gpg` makes the key; without it, nothing is tested.

use crate::cache::setup_path;
use crate::project::{FinishedCommand, Project};
use sha2::{Digest as _, Sha256};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const TEST: &str = r#"test("boots", {timeout = "60s"}, function(t)
  local vm = provium:vm("v", "p"):boot()
  t:assert_eq(vm:run("hello"):assert_ok().stdout, "hello from a package\n")
end)
"#;

/// A mirror that is served until the process ends.
struct Mirror {
    folder: PathBuf,
    url: String,
}

impl Mirror {
    /// `None` without `gpg`.
    fn new(project: &Project) -> Option<Self> {
        let folder = project.beside("mirror");
        let guest = setup_path(&project.provium(&["setup"]).passes(), "root");
        let guest = guest.parent().unwrap();
        let index = std::fs::read_to_string(guest.join("modules.json")).unwrap();
        let (_, release) = index.split_once("\"release\":\"").unwrap();
        let release = release.split('"').next().unwrap();
        let read = |name: &str| std::fs::read(guest.join(name)).unwrap();
        let hello = b"#!/bin/sh\necho hello from a package\n".to_vec();
        let kernel = format!("linux-image-{release}");
        let packages = [
            ("linux-image-cloud-amd64", kernel.as_str(), Vec::new()),
            (
                &kernel,
                "",
                vec![(format!("boot/vmlinuz-{release}"), read("kernel"))],
            ),
            (
                "busybox-static",
                "",
                vec![("bin/busybox".to_owned(), read("busybox"))],
            ),
            ("hello", "missing | libhello", Vec::new()),
            ("libhello", "", vec![("usr/bin/hello".to_owned(), hello)]),
        ];
        let mut list = String::new();
        for (name, depends, files) in packages {
            let path = format!("pool/{name}.deb");
            let bytes = package(&files);
            list.push_str(&format!("Package: {name}\nFilename: {path}\n"));
            list.push_str(&format!(
                "Size: {}\nSHA256: {}\n",
                bytes.len(),
                sha256(&bytes)
            ));
            if !depends.is_empty() {
                list.push_str(&format!("Depends: {depends}\n"));
            }
            list.push('\n');
            write(&folder.join(path), &bytes);
        }
        let dists = folder.join("dists/test");
        write(&dists.join("main/binary-amd64/Packages"), list.as_bytes());
        let signed = format!(
            "Origin: test\nSHA256:\n {} {} main/binary-amd64/Packages\n",
            sha256(list.as_bytes()),
            list.len()
        );
        write(&dists.join("Release"), signed.as_bytes());
        sign(&dists.join("Release"), &folder.join("keys.asc"))?;
        let url = serve(folder.clone());
        Some(Self { folder, url })
    }

    /// Lets the project's commands use the mirror, and no `apt-get`.
    fn configure(&self, project: &Project) {
        let programs = project.beside("bin");
        std::fs::create_dir_all(&programs).unwrap();
        for name in ["gpgv", "qemu-system-x86_64"] {
            std::os::unix::fs::symlink(which(name).unwrap(), programs.join(name)).unwrap();
        }
        project.set_env("PATH", programs.to_str().unwrap());
        project.set_env("PROVIUM_MIRROR", &self.url);
        project.set_env("PROVIUM_MIRROR_SUITE", "test");
        let keys = self.folder.join("keys.asc");
        project.set_env("PROVIUM_MIRROR_KEYS", keys.to_str().unwrap());
    }
}

#[test]
#[ignore = "boots guests"]
fn a_guest_with_packages_comes_from_a_mirror() {
    let project = Project::new(&[
        (
            "provium.toml",
            "[profiles.p]\nguest = \"default\"\npackages = [\"hello\"]\n",
        ),
        ("boot.test.lua", TEST),
    ]);
    let Some(mirror) = Mirror::new(&project) else {
        eprintln!("skipped: gpg is not installed");
        return;
    };
    mirror.configure(&project);
    let cache = |name: &str| {
        project.set_env("XDG_CACHE_HOME", project.beside(name).to_str().unwrap());
    };
    let refuses = |cause: &str| -> FinishedCommand {
        let ran = project.provium(&["prepare", "p"]).exits_with(2);
        ran.warns(cause);
        ran
    };
    cache("cache");
    let ran = project.run(&["boot.test.lua"]).passes();
    ran.warns("downloading hello with all dependencies");

    // What is not what was signed is refused.
    let hello = mirror.folder.join("pool/libhello.deb");
    let original = std::fs::read(&hello).unwrap();
    let mut changed = original.clone();
    *changed.last_mut().unwrap() ^= 1;
    write(&hello, &changed);
    cache("changed package");
    refuses("libhello.deb`: it has .* are signed");
    write(&hello, &original);

    project.remove_env("PROVIUM_MIRROR_KEYS");
    cache("other keys");
    refuses("cannot verify the signature of");
    let keys = mirror.folder.join("keys.asc");
    project.set_env("PROVIUM_MIRROR_KEYS", keys.to_str().unwrap());

    let release = mirror.folder.join("dists/test/Release");
    let mut text = std::fs::read(&release).unwrap();
    text.push(b'\n');
    write(&release, &text);
    cache("changed list");
    refuses("cannot verify the signature of");
}

/// A Debian package with these files (`deb(5)`, `ar(5)`).
fn package(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut data = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(content.len() as u64);
        header.set_uid(0);
        header.set_gid(0);
        data.append_data(&mut header, format!("./{path}"), &content[..])
            .unwrap();
    }
    let data = data.into_inner().unwrap();
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, content) in [("debian-binary", &b"2.0\n"[..]), ("data.tar", &data)] {
        let header = format!(
            "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n",
            0,
            0,
            0,
            "100644",
            content.len()
        );
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(content);
        if content.len() % 2 == 1 {
            bytes.push(b'\n');
        }
    }
    bytes
}

/// Signs a file with a new key, which is written to `keys`.
fn sign(file: &Path, keys: &Path) -> Option<()> {
    which("gpg")?;
    let home = tempfile::tempdir().unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(["--homedir", home.path().to_str().unwrap()]);
        let output = command
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{program} {arguments:?}: {said}");
        output.stdout
    };
    let gpg = |arguments: &[&str]| {
        run(
            "gpg",
            &[&["--batch", "--passphrase", ""], arguments].concat(),
        )
    };
    gpg(&["--quick-generate-key", "test", "ed25519", "sign", "never"]);
    gpg(&["--detach-sign", file.to_str().unwrap()]);
    std::fs::rename(file.with_extension("sig"), file.with_extension("gpg")).unwrap();
    write(keys, &gpg(&["--armor", "--export"]));
    run("gpgconf", &["--kill", "gpg-agent"]);
    Some(())
}

/// Serves a folder by HTTP on this host; gives its address.
fn serve(folder: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that goes away is not an error.
            let _ = answer(stream.unwrap(), &folder);
        }
    });
    url
}

/// Answers one request, and closes the connection.
fn answer(mut stream: TcpStream, folder: &Path) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => request.extend_from_slice(&buffer[..count]),
        }
    }
    let request = String::from_utf8_lossy(&request);
    let path = request.split(' ').nth(1).unwrap_or_default();
    let content = std::fs::read(folder.join(path.trim_start_matches('/')));
    let (status, content) = match content {
        Ok(content) => ("200 OK", content),
        Err(_) => ("404 Not Found", Vec::new()),
    };
    let length = content.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    stream.write_all(&content)
}

fn sha256(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write(path: &Path, content: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut places = std::env::split_paths(&path).map(|folder| folder.join(program));
    places.find(|place| place.is_file())
}
