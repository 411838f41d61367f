//! From the kernel's first process to a router that serves.

use super::power::PowerButton;
use super::{chain, modules, mounts};
use crate::executor::Root;
use crate::roots;
use crate::router::{Duties, Router};
use crate::sys::process::{self, Forked};
use crate::sys::signal::{self, SignalStream};
use crate::sys::{Errno, boot, fd, file};
use crate::transport::Transport;
use provium_protocol::boot::{BootPlan, PLAN_PATH};
use provium_protocol::codec;

const AS_INIT: [i32; 5] = [
    libc::SIGCHLD,
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGUSR1,
    libc::SIGUSR2,
];

/// Runs as process 1. `argv0` is where the kernel put the first argument.
pub(crate) fn start(argv0: *mut libc::c_char) -> ! {
    signal::default_dispositions();
    let mut complaints = Vec::new();
    if let Err(Errno(errno)) = mounts::mount_own() {
        complaints.push(format!("opening /proc, /dev and /sys: errno {errno}"));
    }
    let plan = match read_plan() {
        Ok(plan) => plan,
        Err(why) => {
            complaints.push(why);
            BootPlan::default()
        }
    };
    complaints.extend(modules::load_all(&plan.modules));
    let_warnings_through();
    // Before an init can change it.
    let root = Root::now();
    let inits = chain::find(&plan);
    let duties = if inits.is_empty() {
        as_init(&plan, complaints)
    } else {
        match process::fork(0) {
            Ok(Forked::Child) => {}
            Ok(Forked::Parent(_)) | Err(_) => chain::become_init(&inits),
        }
        as_companion(argv0, complaints)
    };
    match duties {
        Ok(duties) => Router::new(Transport::find(), duties, root).run(),
        Err(errno) => {
            roots::log(&format!("cannot serve: errno {}", errno.0));
            process::exit(1)
        }
    }
}

fn read_plan() -> Result<BootPlan, String> {
    let bytes =
        file::read(PLAN_PATH).map_err(|errno| format!("no boot plan: errno {}", errno.0))?;
    codec::decode(&bytes).map_err(|_| "the boot plan cannot be read".to_owned())
}

/// Beside an init of the image's own: as little in its way as possible.
fn as_companion(argv0: *mut libc::c_char, complaints: Vec<String>) -> Result<Duties, Errno> {
    // Init systems spare processes named so when they end everything before a change of root.
    boot::rename_process(argv0, b"@provium");
    process::name_thread(c"provium-agent");
    process::new_session();
    for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGINT] {
        signal::ignore(signal);
    }
    quiet_standard_descriptors();
    protect_from_oom_killer();
    signal::block_only(&[libc::SIGCHLD]);
    Ok(Duties {
        is_init: false,
        signals: SignalStream::of(&[libc::SIGCHLD])?,
        power: PowerButton::default(),
        asks: crate::router::Asks::default(),
        complaints,
    })
}

/// In place of an init.
fn as_init(plan: &BootPlan, mut complaints: Vec<String>) -> Result<Duties, Errno> {
    process::name_thread(c"provium-agent");
    complaints.extend(mounts::mount_usual());
    let mut note = |what: &str, result: Result<(), Errno>| {
        if let Err(Errno(errno)) = result {
            complaints.push(format!("{what}: errno {errno}"));
        }
    };
    if !plan.hostname.is_empty() {
        note("setting the host name", boot::set_hostname(&plan.hostname));
    }
    note("bringing the loopback interface up", boot::loopback_up());
    boot::catch_ctrl_alt_del();
    let mut asks = crate::router::Asks::default();
    if plan.modules_on_demand {
        note("standing in for modprobe", modules::stand_in_for_modprobe());
        match crate::router::Asks::listen() {
            Ok(listening) => asks = listening,
            Err(errno) => note("listening for modprobe", Err(errno)),
        }
    }
    quiet_standard_descriptors();
    protect_from_oom_killer();
    signal::block_only(&AS_INIT);
    Ok(Duties {
        is_init: true,
        signals: SignalStream::of(&AS_INIT)?,
        power: PowerButton::find(),
        asks,
        complaints,
    })
}

/// `quiet` keeps a boot fast by keeping it silent (console level 4: errors and worse). From here on
/// the host reads the kernel's log on the console, and wants its warnings, too. Any other level was
/// chosen by somebody.
fn let_warnings_through() {
    const PRINTK: &str = "sys/kernel/printk";
    let level = file::read_at(roots::PROC, PRINTK).unwrap_or_default();
    if level.first() == Some(&b'4') && level.get(1).is_some_and(u8::is_ascii_whitespace) {
        // Where it cannot be set it stays as it is.
        let _ = file::write_at(roots::PROC, PRINTK, b"5");
    }
}

/// The console is the test's.
fn quiet_standard_descriptors() {
    use std::os::fd::AsRawFd;
    if let Ok(null) = roots::null() {
        for number in 0..3 {
            let _ = fd::copy_to_inheritable(null.as_raw_fd(), number);
        }
        if null.as_raw_fd() < 3 {
            std::mem::forget(null);
        }
    }
}

fn oom_score(score: &str) {
    // An ordinary user may not; then it stays as it is.
    let _ = file::write_at(roots::PROC, "self/oom_score_adj", score.as_bytes());
}

fn protect_from_oom_killer() {
    oom_score("-1000");
}

/// For a process that is as large as a test makes it.
pub(crate) fn expose_to_oom_killer() {
    oom_score("0");
}
