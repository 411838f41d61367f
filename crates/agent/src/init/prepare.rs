//! From the kernel's first process to a router that serves.

use super::power::PowerButton;
use super::{chain, copy, modules, mounts, root_disk};
use crate::executor::Root;
use crate::ops::identity::NameOwner;
use crate::roots;
use crate::router::{ModuleServer, Router, RouterConfig};
use crate::stderr;
use crate::sys::process::{self, ForkSide};
use crate::sys::signal::{self, SignalStream};
use crate::sys::{Errno, boot, detached, fd, file};
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
    let mut warnings = Vec::new();
    if let Err(errno) = mounts::mount_own() {
        warnings.push(format!("opening /proc, /dev and /sys: {errno}"));
    }
    let config = match read_plan() {
        Ok(Some(plan)) => follow(&plan, argv0, warnings),
        Ok(None) => as_own_init(&warnings),
        Err(why) => {
            warnings.push(why);
            as_init(&BootPlan::default(), warnings, true)
        }
    };
    let served = config.and_then(|(root, config)| Ok((Transport::find()?, config, root)));
    match served {
        Ok((transport, config, root)) => Router::new(transport, config, root).run(),
        Err(errno) => {
            roots::log(&format!(
                "{}; an image that starts the agent needs a profile with inject_agent = false",
                reason(errno)
            ));
            process::exit(1)
        }
    }
}

/// Runs beside an init that the image brings, started by it or by one of its programs, at any time
/// and under any name. The system is left as it is found.
pub(crate) fn join(argv0: *mut libc::c_char) -> i32 {
    signal::default_dispositions();
    // Descriptors, folder, mask and limits of the program that started it do not belong to the guest.
    fd::close_range(3, i32::MAX);
    detached::set_umask(0o022);
    let joined = file::change_dir(b"/")
        .and_then(|()| detached::allow_usual_files())
        .and_then(|()| mounts::open_own())
        .and_then(|()| Transport::find());
    let (transport, config) = match joined {
        Ok(transport) => match as_companion(argv0, Vec::new(), NameOwner::Guest) {
            Ok(config) => (transport, config),
            Err(errno) => return refuse(errno),
        },
        Err(errno) => return refuse(errno),
    };
    Router::new(transport, config, Root::now()).run()
}

/// Why the host cannot be served.
fn reason(errno: Errno) -> String {
    match errno {
        Errno(libc::EBUSY) => "an agent serves this guest already".to_owned(),
        errno => format!("cannot serve the host: {errno}"),
    }
}

fn refuse(errno: Errno) -> i32 {
    let why = reason(errno);
    roots::log(&why);
    stderr::print(&format!("provium-agent: {why}"));
    1
}

/// The plan of the host; `None` in a guest of an image that brings the agent itself.
fn read_plan() -> Result<Option<BootPlan>, String> {
    match file::read(PLAN_PATH) {
        Ok(bytes) => {
            // It is for one boot: an agent that the init executes in its place must not run the init again.
            let _ = file::remove(PLAN_PATH.as_bytes());
            match codec::decode(&bytes) {
                Ok(plan) => Ok(Some(plan)),
                Err(_) => Err("the boot plan cannot be read".to_owned()),
            }
        }
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(format!("the boot plan cannot be read: {errno}")),
    }
}

/// What the host wants: modules first, then the image's init, if it has one.
fn follow(
    plan: &BootPlan,
    argv0: *mut libc::c_char,
    mut warnings: Vec<String>,
) -> Result<(Root, RouterConfig), Errno> {
    warnings.extend(modules::load_all(&plan.modules));
    let_warnings_through();
    if let Some(root) = &plan.root_disk {
        match root_disk::enter(root, plan) {
            Ok(more) => warnings.extend(more),
            Err(why) => fail(&warnings, &why),
        }
    }
    // Before an init can change it.
    let root = Root::now();
    let Some(init) = chain::find(plan) else {
        return as_init(plan, warnings, true);
    };
    leave_copy();
    let (reading, writing) = fd::pipe()?;
    match process::fork(0) {
        Ok(ForkSide::Child) => drop(writing),
        Ok(ForkSide::Parent(_)) | Err(_) => chain::become_init(&init, writing),
    }
    warnings.extend(chain::await_init(&reading));
    Ok((root, as_companion(argv0, warnings, NameOwner::Init)?))
}

/// Ends the boot, and with it the machine: the kernel panics when its first process ends. The host finds the
/// reason in the kernel's log.
fn fail(warnings: &[String], why: &str) -> ! {
    for warning in warnings {
        roots::log(warning);
    }
    roots::log(why);
    process::exit(1)
}

/// Leaves the agent where tests look for it. A failure does not fail the boot.
fn leave_copy() {
    if let Err(errno) = copy::leave_copy() {
        roots::log(&format!("no copy of the agent in /sbin: {errno}"));
    }
}

/// The init of an image that brings the agent: what cannot be set up is how that guest is.
fn as_own_init(warnings: &[String]) -> Result<(Root, RouterConfig), Errno> {
    let (root, mut config) = as_init(&BootPlan::default(), Vec::new(), false)?;
    for warning in warnings.iter().chain(&config.warnings) {
        roots::log(warning);
    }
    config.warnings.clear();
    Ok((root, config))
}

/// Beside an init of the image's own: as little in its way as possible.
fn as_companion(
    argv0: *mut libc::c_char,
    warnings: Vec<String>,
    name_owner: NameOwner,
) -> Result<RouterConfig, Errno> {
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
    Ok(RouterConfig {
        is_init: false,
        name_owner,
        signals: SignalStream::of(&[libc::SIGCHLD])?,
        power: PowerButton::default(),
        modules: ModuleServer::default(),
        warnings,
    })
}

/// In place of an init.
fn as_init(
    plan: &BootPlan,
    mut warnings: Vec<String>,
    is_injected: bool,
) -> Result<(Root, RouterConfig), Errno> {
    process::name_thread(c"provium-agent");
    let root = Root::now();
    warnings.extend(mounts::mount_usual());
    let mut note = |what: &str, result: Result<(), Errno>| {
        if let Err(errno) = result {
            warnings.push(format!("{what}: {errno}"));
        }
    };
    if !plan.hostname.is_empty() {
        note("setting the host name", boot::set_hostname(&plan.hostname));
    }
    note("bringing the loopback interface up", boot::loopback_up());
    boot::catch_ctrl_alt_del();
    let mut module_server = ModuleServer::default();
    if plan.modules_on_demand {
        note("standing in for modprobe", modules::stand_in_for_modprobe());
        match ModuleServer::listen() {
            Ok(listening) => module_server = listening,
            Err(errno) => note("listening for modprobe", Err(errno)),
        }
    }
    if is_injected {
        leave_copy();
        // Programs read the name there. A link, since the name changes with each boot and copy.
        let _ = file::symlink(b"/proc/sys/kernel/hostname", b"/etc/hostname");
    }
    quiet_standard_descriptors();
    protect_from_oom_killer();
    signal::block_only(&AS_INIT);
    let config = RouterConfig {
        is_init: true,
        name_owner: NameOwner::Host,
        signals: SignalStream::of(&AS_INIT)?,
        power: PowerButton::find(),
        modules: module_server,
        warnings,
    };
    Ok((root, config))
}

/// `quiet` keeps a boot fast by keeping it silent (console level 4: errors and worse). From here on
/// the host reads the kernel's log on the console, and wants its warnings, too. Any other level was
/// set on purpose.
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

fn protect_from_oom_killer() {
    roots::set_oom_score("-1000");
}
