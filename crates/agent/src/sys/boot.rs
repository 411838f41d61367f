//! System calls that only the first process of a machine makes.

#![expect(unsafe_code, reason = "administrative calls of the kernel")]

use super::file::path;
use super::{Errno, Sys, check, fd};
use std::ffi::CStr;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;

/// Mounts a file system that needs no device.
pub(crate) fn mount(kind: &CStr, target: &str, flags: u64, options: &CStr) -> Sys<()> {
    let target = path(target.as_bytes())?;
    // SAFETY: terminated strings.
    check(unsafe {
        let options = options.as_ptr().cast();
        libc::mount(
            kind.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            flags,
            options,
        )
    })
    .map(drop)
}

/// Takes a mount off the tree; it lives on while descriptors of it are open.
pub(crate) fn detach(target: &str) -> Sys<()> {
    let target = path(target.as_bytes())?;
    // SAFETY: a terminated string.
    check(unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) }).map(drop)
}

/// Loads a kernel module from its file.
pub(crate) fn load_module_file(file: RawFd, parameters: &CStr) -> Sys<()> {
    // SAFETY: a terminated string of parameters.
    let result = unsafe { libc::syscall(libc::SYS_finit_module, file, parameters.as_ptr(), 0) };
    match check(result) {
        // A kernel without the call, or a security module that objects to where the file is.
        Err(Errno(libc::ENOSYS | libc::EPERM)) => load_module(&fd::read_to_end(file)?, parameters),
        other => other.map(drop),
    }
}

/// Loads a kernel module from its bytes.
pub(crate) fn load_module(object: &[u8], parameters: &CStr) -> Sys<()> {
    // SAFETY: bytes of the length given, and a terminated string.
    check(unsafe {
        libc::syscall(
            libc::SYS_init_module,
            object.as_ptr(),
            object.len(),
            parameters.as_ptr(),
        )
    })
    .map(drop)
}

/// Unloads a kernel module.
pub(crate) fn unload_module(name: &CStr) -> Sys<()> {
    // SAFETY: a terminated string.
    check(unsafe { libc::syscall(libc::SYS_delete_module, name.as_ptr(), libc::O_NONBLOCK) })
        .map(drop)
}

/// Sets the host name.
pub(crate) fn set_hostname(name: &str) -> Sys<()> {
    // SAFETY: bytes of the length given.
    check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }).map(drop)
}

/// The kernel's release, as `uname -r` prints it.
pub(crate) fn kernel_release() -> String {
    // SAFETY: all-zero is a valid utsname, filled by the kernel with terminated strings.
    unsafe {
        let mut name: libc::utsname = mem::zeroed();
        libc::uname(&raw mut name);
        CStr::from_ptr(name.release.as_ptr())
            .to_string_lossy()
            .into_owned()
    }
}

/// Brings the loopback interface up.
pub(crate) fn loopback_up() -> Sys<()> {
    // SAFETY: no pointers.
    let socket = check(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0) }).map(fd::own)?;
    // SAFETY: all-zero is a valid ifreq; the name is shorter than its room.
    unsafe {
        let mut request: libc::ifreq = mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(*b"lo") {
            *to = from.cast_signed();
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        let request = &raw const request;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, request)).map(drop)
    }
}

/// A socket on which the kernel announces devices as they come, change and go.
pub(crate) fn device_events() -> Sys<OwnedFd> {
    const KERNEL: u32 = 1;
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers.
    let socket =
        check(unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_KOBJECT_UEVENT) })
            .map(fd::own)?;
    // SAFETY: all-zero is a valid address, and it is as long as claimed.
    unsafe {
        let mut address: libc::sockaddr_nl = mem::zeroed();
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        address.nl_groups = KERNEL;
        let len = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
        check(libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            len,
        ))?;
    }
    Ok(socket)
}

/// How a machine stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    PowerOff,
    Halt,
    Reboot,
}

/// Writes back what is dirty, then stops the machine.
pub(crate) fn stop(how: Stop) -> Errno {
    let command = match how {
        Stop::PowerOff => libc::RB_POWER_OFF,
        Stop::Halt => libc::RB_HALT_SYSTEM,
        Stop::Reboot => libc::RB_AUTOBOOT,
    };
    // SAFETY: no pointers.
    unsafe {
        libc::sync();
        libc::reboot(command);
    }
    Errno::last()
}

/// Has Ctrl-Alt-Del send `SIGINT` to the first process.
pub(crate) fn catch_ctrl_alt_del() {
    // SAFETY: no pointers.
    unsafe { libc::reboot(libc::RB_DISABLE_CAD) };
}

/// Mixes bytes into the random generator, counts them as entropy, and has it take a new key.
pub(crate) fn reseed_random(device: RawFd, bytes: &[u8]) -> Sys<()> {
    const RNDADDENTROPY: libc::c_ulong = 0x4008_5203;
    const RNDRESEEDCRNG: libc::c_ulong = 0x5207;
    for piece in bytes.chunks(512) {
        let bits = i32::try_from(piece.len() * 8).unwrap_or(0);
        let size = i32::try_from(piece.len()).unwrap_or(0);
        let mut request = Vec::with_capacity(8 + piece.len());
        request.extend_from_slice(&bits.to_ne_bytes());
        request.extend_from_slice(&size.to_ne_bytes());
        request.extend_from_slice(piece);
        // SAFETY: a rand_pool_info of the size it claims.
        check(unsafe { libc::ioctl(device, RNDADDENTROPY, request.as_ptr()) })?;
    }
    // SAFETY: no pointers.
    match check(unsafe { libc::ioctl(device, RNDRESEEDCRNG) }) {
        // Linux has this request from 4.14 on.
        Err(Errno::INVAL) => Ok(()),
        other => other.map(drop),
    }
}

/// Makes this process's command line read `name`, as far as there is room.
pub(crate) fn rename_process(argv0: *mut libc::c_char, name: &[u8]) {
    if argv0.is_null() {
        return;
    }
    // SAFETY: the first argument is a terminated string that the process owns; it is not made
    // longer.
    unsafe {
        let len = CStr::from_ptr(argv0).to_bytes().len();
        let keep = name.len().min(len);
        ptr::copy_nonoverlapping(name.as_ptr(), argv0.cast(), keep);
        ptr::write_bytes(argv0.add(keep), 0, len - keep);
    }
}

/// Whether an input device reports `KEY_POWER`.
pub(crate) fn has_power_key(device: RawFd) -> bool {
    const EV_KEY: libc::c_ulong = 1;
    const KEY_POWER: usize = 116;
    let mut keys = [0_u8; 96];
    // EVIOCGBIT(EV_KEY, 96)
    let request = (2 << 30) | ((keys.len() as libc::c_ulong) << 16) | (0x45 << 8) | (0x20 + EV_KEY);
    // SAFETY: a buffer of the length that the request names.
    let found = unsafe { libc::ioctl(device, request, keys.as_mut_ptr()) };
    found >= 0 && keys[KEY_POWER / 8] & (1 << (KEY_POWER % 8)) != 0
}

/// Keeps mounts made in this mount namespace out of others.
pub(crate) fn make_mounts_private() -> Sys<()> {
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    let none = ptr::null();
    // SAFETY: a terminated string; the others are not looked at for a change of propagation.
    check(unsafe { libc::mount(none, c"/".as_ptr(), none, flags, ptr::null()) }).map(drop)
}
