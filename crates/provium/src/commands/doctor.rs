//! `provium doctor`: checks everything once. It downloads, builds and makes nothing; only the speed of
//! guests, which it measures, is kept for later runs if the cache exists.
//!
//! Each check reports what it found and, for what is missing, what follows from that and the one command that
//! fixes it. The exit code is 0 when a run with the default settings would work.

use super::runtime::interruptible;
use crate::diagnostics::in_one_line;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::hiargs::{Context, MachineSettings};
use crate::lowargs::DoctorArgs;
use crate::{machines, terminal};
use anstyle::{AnsiColor, Style};
use camino::Utf8Path;
use provium_events::counted;
use provium_events::printable::clean;
use provium_image::{ImageError, SilentProgress, missing_disk_tools};
use provium_pool::HostMemory;
use provium_process::Command;
use provium_store::{Cache, StoreError};
use provium_vmm::{Accel, AccelChoice, Decision, OLDEST_QEMU, Qemu, measure_accel};
use std::fmt::Write as _;
use std::sync::Arc;

/// Memory that one small guest takes, with what surrounds it, bytes.
const ONE_GUEST: u64 = 356 << 20;

/// What a check found.
#[derive(Debug)]
struct Finding {
    subject: &'static str,
    state: State,
    found: String,
    /// What follows from it.
    effect: Option<String>,
    /// The command that fixes it.
    fix: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Good,
    /// Runs work, but not as well as they could.
    Worse,
    /// No run works.
    Missing,
}

pub(super) fn run(args: &DoctorArgs) -> Result<Exit, Failure> {
    let context = Context::new(&args.plain)?;
    let settings = MachineSettings::new(&args.machine);
    let memory_is_explicit = args.machine.mem.is_some();
    let findings =
        interruptible(async { Ok(check(&context, &settings, memory_is_explicit).await) })?;
    let mut out = String::new();
    for finding in &findings {
        out.push_str(&finding.shown(context.colour));
    }
    let works = findings
        .iter()
        .all(|finding| finding.state != State::Missing);
    out.push_str(if works {
        "a run would work\n"
    } else {
        "a run would not work\n"
    });
    terminal::out(&out);
    Ok(if works { Exit::Passed } else { Exit::Unable })
}

async fn check(
    context: &Context,
    settings: &MachineSettings,
    memory_is_explicit: bool,
) -> Vec<Finding> {
    let cache_dir = &context.config.cache_dir;
    let (qemu, qemu_finding) = qemu().await;
    let cache = cache(cache_dir);
    let has_cache = cache.state == State::Good && cache_dir.is_dir();
    let mut findings = vec![qemu_finding];
    if let Some(qemu) = &qemu {
        findings.extend(accelerator(qemu, settings.accel, cache_dir).await);
        findings.push(sandbox(qemu).await);
    }
    findings.push(cache);
    findings.push(guest(cache_dir, has_cache).await);
    findings.push(pool(settings, memory_is_explicit));
    findings.push(uplink());
    findings.push(disks());
    findings
}

/// The program that connects bridges to the network of the host.
fn uplink() -> Finding {
    let subject = "uplink";
    match Command::new("passt").resolve() {
        Ok(path) => Finding::good(subject, format!("passt at {}", path.display())),
        Err(_) => Finding {
            subject,
            state: State::Worse,
            found: "passt is not installed".to_owned(),
            effect: Some("bridge:enable_uplink() is not possible".to_owned()),
            fix: Some(install(["passt"; 5])),
        },
    }
}

/// The programs that make images of disks.
fn disks() -> Finding {
    let subject = "disk images";
    let missing = missing_disk_tools();
    let lacks = |name| {
        let mut packages = missing.iter().filter_map(|error| match error {
            ImageError::NoTool { package, .. } => Some(*package),
            _ => None,
        });
        packages.any(|package| package == name)
    };
    let packages = match (lacks("e2fsprogs"), lacks("qemu-utils")) {
        (false, false) => {
            let found = "mke2fs, debugfs and qemu-img are installed".to_owned();
            return Finding::good(subject, found);
        }
        (true, false) => ["e2fsprogs"; 5],
        (false, true) => [
            "qemu-img",
            "qemu-img",
            "qemu-img",
            "qemu-tools",
            "qemu-utils",
        ],
        (true, true) => [
            "e2fsprogs qemu-img",
            "e2fsprogs qemu-img",
            "e2fsprogs qemu-img",
            "e2fsprogs qemu-tools",
            "e2fsprogs qemu-utils",
        ],
    };
    let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
    Finding {
        subject,
        state: State::Worse,
        found: missing.join("; "),
        effect: Some("some disks of VMs cannot be made from folders or images".to_owned()),
        fix: Some(install(packages)),
    }
}

async fn qemu() -> (Option<Qemu>, Finding) {
    match machines::qemu().await {
        Ok(qemu) => {
            let found = format!("{} at {}", qemu.version, qemu.path);
            (Some(qemu), Finding::good("QEMU", found))
        }
        Err(failure) => {
            let finding = Finding {
                subject: "QEMU",
                state: State::Missing,
                found: in_one_line(&failure),
                effect: Some(format!("no VM can boot; {OLDEST_QEMU} or later is needed")),
                fix: Some(install_qemu()),
            };
            (None, finding)
        }
    }
}

/// What runs guests, and the timeout multiplier that follows from it.
async fn accelerator(qemu: &Qemu, choice: AccelChoice, cache_dir: &Utf8Path) -> Vec<Finding> {
    let subject = "accelerator";
    let decision = match measure_accel(qemu, choice, cache_dir).await {
        Ok(decision) => decision,
        Err(error) => {
            return vec![Finding {
                subject,
                state: State::Missing,
                found: in_one_line(&error),
                effect: Some("no VM can boot with it".to_owned()),
                fix: Some("provium --accel auto".to_owned()),
            }];
        }
    };
    let Decision {
        accel,
        why,
        slowdown,
        processor: _,
    } = decision;
    let accelerator = match accel {
        Accel::Kvm => Finding::good(subject, format!("kvm: {why}")),
        Accel::Tcg => {
            let denied = std::fs::File::options()
                .read(true)
                .write(true)
                .open("/dev/kvm");
            let denied =
                denied.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied);
            Finding {
                subject,
                state: State::Worse,
                found: format!("tcg: {why}"),
                effect: Some(format!(
                    "guests run about {slowdown:.1} times slower than on hardware"
                )),
                fix: denied
                    .then(|| "sudo usermod -aG kvm \"$USER\"  # then log in again".to_owned()),
            }
        }
    };
    let multiplier = format!(
        "those that wait for a guest are multiplied by {slowdown:.1}, the best of the probes since the host's boot"
    );
    vec![accelerator, Finding::good("timeouts", multiplier)]
}

/// Whether a guest that has taken QEMU over is held back by it.
async fn sandbox(qemu: &Qemu) -> Finding {
    let subject = "sandbox";
    match qemu.try_sandbox().await {
        Ok(()) => Finding::good(subject, "QEMU confines itself by seccomp".to_owned()),
        Err(why) => Finding {
            subject,
            state: State::Worse,
            found: format!(
                "QEMU cannot confine itself: {}",
                clean(&why).replace('\n', " ")
            ),
            effect: Some("a guest that breaks into QEMU can do all that your user can".to_owned()),
            fix: None,
        },
    }
}

/// The cache is not made: where it is absent, the folder in which a run would make it has to be writable.
fn cache(cache_dir: &Utf8Path) -> Finding {
    let subject = "cache";
    let existing = cache_dir.ancestors().find(|folder| folder.is_dir());
    let existing = existing.unwrap_or(Utf8Path::new("/"));
    let fix = Some(format!("sudo chown -R \"$USER\" {existing}"));
    // Without a name, so that nothing stays behind whatever happens.
    let tried = tempfile::tempfile_in(existing);
    let opened = tried.map(|_| match existing == cache_dir {
        true => Cache::open(cache_dir).map(drop),
        false => Ok(()),
    });
    match opened {
        Ok(Err(error @ StoreError::Foreign { .. })) => Finding {
            subject,
            state: State::Missing,
            found: error.to_string(),
            effect: Some("no run uses it".to_owned()),
            fix,
        },
        Ok(_) if existing == cache_dir => {
            Finding::good(subject, format!("{cache_dir} can be written"))
        }
        Ok(_) => Finding::good(subject, format!("{cache_dir} can be made")),
        Err(error) => Finding {
            subject,
            state: State::Missing,
            found: format!("{cache_dir} cannot be written: {error}"),
            effect: Some("no guest can be kept, so none can boot".to_owned()),
            fix,
        },
    }
}

/// Whether the default guest is in the cache, and what is missing to download it.
async fn guest(cache_dir: &Utf8Path, has_cache: bool) -> Finding {
    let subject = "default guest";
    let cached = if has_cache {
        match machines::images(cache_dir, Arc::new(SilentProgress)) {
            Ok(images) => images.cached_default_guest().await.map_err(Failure::from),
            Err(failure) => Err(failure),
        }
    } else {
        Ok(None)
    };
    let effect = "profiles without a kernel and an initrd of their own cannot boot".to_owned();
    match cached {
        Ok(Some(guest)) => Finding::good(subject, format!("kernel {}", guest.kernel)),
        Ok(None) => match provium_image::download_tool() {
            Ok(tool) => Finding {
                subject,
                state: State::Worse,
                found: format!("not prepared yet; {tool} can download it"),
                effect: Some("the first run downloads it, which needs a network".to_owned()),
                fix: Some("provium setup  # once; works offline afterwards".to_owned()),
            },
            Err(missing) => Finding {
                subject,
                state: State::Missing,
                found: format!("not prepared yet, and it cannot be downloaded: {missing}"),
                effect: Some(effect),
                fix: Some(install_gpgv()),
            },
        },
        Err(failure) => Finding {
            subject,
            state: State::Missing,
            found: in_one_line(&failure),
            effect: Some(effect),
            fix: Some("provium setup".to_owned()),
        },
    }
}

fn pool(settings: &MachineSettings, memory_is_explicit: bool) -> Finding {
    let (memory, cpus) = (settings.pool.memory_bytes, settings.pool.cpus);
    let from = if memory_is_explicit {
        String::new()
    } else {
        format!(" ({})", HostMemory::read())
    };
    let found = format!("{} MiB{from} and {}", memory >> 20, counted(cpus, "vCPU"));
    if memory >= ONE_GUEST {
        return Finding::good("pool", found);
    }
    Finding {
        subject: "pool",
        state: State::Missing,
        found,
        effect: Some(format!(
            "a small guest takes {} MiB and does not fit",
            ONE_GUEST >> 20
        )),
        fix: Some("provium --mem 512M".to_owned()),
    }
}

impl Finding {
    fn good(subject: &'static str, found: String) -> Self {
        Self {
            subject,
            state: State::Good,
            found,
            effect: None,
            fix: None,
        }
    }

    fn shown(&self, colour: bool) -> String {
        let (word, tone) = match self.state {
            State::Good => ("ok", AnsiColor::Green),
            State::Worse => ("warn", AnsiColor::Yellow),
            State::Missing => ("MISSING", AnsiColor::Red),
        };
        let paint = |style: Style, text: String| match colour {
            true => format!("{style}{text}{style:#}"),
            false => text,
        };
        let word = paint(tone.on_default().bold(), format!("{word:<8}"));
        let mut out = format!("{word} {:<14} {}\n", self.subject, self.found);
        let lines = [("effect: ", &self.effect), ("fix:    ", &self.fix)];
        for (name, text) in lines {
            if let Some(text) = text {
                let name = paint(Style::new().dimmed(), name.to_owned());
                let _ = writeln!(out, "{:>24}{name}{text}", "");
            }
        }
        out
    }
}

/// The command that installs QEMU on this distribution.
fn install_qemu() -> String {
    install([
        "qemu-system-x86-core",
        "qemu-system-x86",
        "qemu-system-x86_64",
        "qemu-x86",
        "qemu-system-x86",
    ])
}

/// The command that installs `gpgv`.
fn install_gpgv() -> String {
    install(["gnupg2", "gnupg", "gpgv", "gpg2", "gpgv"])
}

/// The command that installs a package, which has these names on Fedora, Arch, Alpine, SUSE and Debian, on this
/// distribution (`os-release(5)`).
fn install([fedora, arch, alpine, suse, debian]: [&str; 5]) -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = |key: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_default().trim_matches('"').to_owned()
    };
    let like = format!("{} {}", value("ID"), value("ID_LIKE"));
    let is = |name: &str| like.split(' ').any(|word| word == name);
    if is("fedora") || is("rhel") {
        format!("sudo dnf install -y {fedora}")
    } else if is("arch") {
        format!("sudo pacman -S --noconfirm {arch}")
    } else if is("alpine") {
        format!("sudo apk add {alpine}")
    } else if is("suse") || is("opensuse") {
        format!("sudo zypper install -y {suse}")
    } else {
        format!("sudo apt-get install -y {debian}")
    }
}
