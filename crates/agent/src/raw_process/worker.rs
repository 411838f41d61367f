//! Forking a worker: another raw process, which begins as a copy of this one.
//!
//! The first child applies the worker's options and becomes its raw process; if that needs a pid or time
//! namespace, which only children enter, it forks the raw process and exits. Process 1 of a
//! new pid namespace reaps processes that lose their parent there; it is not part of the worker.

use super::identity::{self, User};
use super::reserved_slot::ReservedSlot;
use crate::failure::{self, OpResult};
use crate::sys::area::Area;
use crate::sys::process::{self, ForkSide};
use crate::sys::slot::PipeEnd;
use crate::sys::{Errno, boot, file, namespace, signal};
use provium_protocol::op::WorkerSpec;
use provium_protocol::{Reply, WireError, codec};
use serde_bytes::ByteBuf;

/// The name of a worker's raw process until the executor knows it.
pub(crate) fn name_of(area: usize) -> String {
    format!("pv-worker-{area}")
}

/// The name of process 1 of a worker's pid namespace.
pub(crate) fn reaper_name_of(area: usize) -> String {
    format!("pv-reaper-{area}")
}

fn name_self(name: String) {
    if let Ok(name) = std::ffi::CString::new(name) {
        process::name_thread(&name);
    }
}

/// Forks it, to serve `area` with `serve`. `home` is its slot in the area of the process that forks it.
/// Returns the id of the first child, or a negative errno.
pub(super) fn fork(spec: &[u8], home: ReservedSlot, area: Area, serve: fn(Area) -> !) -> i64 {
    match process::fork(libc::CLONE_PARENT) {
        Ok(ForkSide::Parent(pid)) => i64::from(pid),
        Ok(ForkSide::Child) => {
            if !home.begin() {
                process::exit(0);
            }
            become_worker(spec, home, area);
            serve(area)
        }
        Err(Errno(errno)) => -i64::from(errno),
    }
}

/// Returns in the process that is the worker's raw process.
fn become_worker(spec: &[u8], home: ReservedSlot, area: Area) {
    process::new_session();
    let Ok(spec) = codec::decode::<WorkerSpec>(spec) else {
        report(home, &Err(failure::invalid("the worker cannot be read")));
        process::exit(1)
    };
    let result =
        Namespaces::named(&spec.namespaces).and_then(|spaces| spaces.enter(home).map(|()| spaces));
    let spaces = match result {
        Ok(spaces) => spaces,
        Err(error) => {
            report(home, &Err(error));
            process::exit(1)
        }
    };
    if spaces.forks_again() {
        if spaces.pid {
            match process::fork(libc::CLONE_PARENT) {
                Ok(ForkSide::Child) => {
                    name_self(reaper_name_of(area.index));
                    signal::default_dispositions();
                    signal::notice_children();
                    signal::unblock_all();
                    process::reap_orphans()
                }
                Ok(ForkSide::Parent(_)) => {}
                Err(errno) => {
                    report(home, &Err(failure::os("fork a worker", errno)));
                    process::exit(1)
                }
            }
        }
        match process::fork(libc::CLONE_PARENT) {
            Ok(ForkSide::Child) => {
                process::new_session();
            }
            Ok(ForkSide::Parent(_)) => process::exit(0),
            Err(errno) => {
                report(home, &Err(failure::os("fork a worker", errno)));
                process::exit(1)
            }
        }
    }
    name_self(name_of(area.index));
    let result = prepare(&spec, &spaces);
    let taken = report(home, &result);
    // The executor looks for this process by its name meanwhile. The slot may serve another process already.
    if result.is_err() || !(taken || area.is_adopted()) {
        process::exit(1);
    }
    area.keep_only_this();
}

/// Stores the result, and waits until it was read; returns whether it was taken.
fn report(home: ReservedSlot, result: &OpResult) -> bool {
    let message = codec::encode(result);
    home.store(&[], &message).is_expected && home.await_reader()
}

/// Applies the worker's options to itself, in an order in which each step still has the privileges that it
/// needs. The result has the variables for its commands.
fn prepare(spec: &WorkerSpec, spaces: &Namespaces) -> OpResult {
    if spaces.mounts {
        boot::make_mounts_private().map_err(|errno| failure::os("make mounts private", errno))?;
    }
    let mut variables = Vec::new();
    if let Some(name) = &spec.user {
        let user = identity::find(name)?;
        user.identity
            .assume()
            .map_err(|errno| failure::os(format!("become `{name}`"), errno))?;
        variables = variables_of(&user);
    }
    if let Some(cwd) = &spec.cwd {
        file::change_dir(cwd).map_err(|errno| {
            failure::os(format!("chdir {}", String::from_utf8_lossy(cwd)), errno)
        })?;
    }
    Ok(Reply::Bytes(ByteBuf::from(variables)))
}

/// `NAME=value`, each terminated by a zero byte.
fn variables_of(user: &User) -> Vec<u8> {
    let mut variables = Vec::new();
    for (name, value) in [
        (b"HOME".as_slice(), &user.home),
        (b"USER", &user.name),
        (b"LOGNAME", &user.name),
    ] {
        variables.extend_from_slice(name);
        variables.push(b'=');
        variables.extend_from_slice(value);
        variables.push(0);
    }
    variables
}

struct Namespaces {
    flags: i32,
    user: bool,
    mounts: bool,
    pid: bool,
    time: bool,
}

impl Namespaces {
    fn named(names: &[String]) -> Result<Self, WireError> {
        let mut spaces = Self {
            flags: 0,
            user: false,
            mounts: false,
            pid: false,
            time: false,
        };
        for name in names {
            spaces.flags |= match name.as_str() {
                "mnt" => libc::CLONE_NEWNS,
                "net" => libc::CLONE_NEWNET,
                "uts" => libc::CLONE_NEWUTS,
                "ipc" => libc::CLONE_NEWIPC,
                "pid" => libc::CLONE_NEWPID,
                "user" => libc::CLONE_NEWUSER,
                "cgroup" => libc::CLONE_NEWCGROUP,
                "time" => libc::CLONE_NEWTIME,
                _ => return Err(failure::invalid(format!("no namespace is called `{name}`"))),
            };
            spaces.user |= name == "user";
            spaces.mounts |= name == "mnt";
            spaces.pid |= name == "pid";
            spaces.time |= name == "time";
        }
        Ok(spaces)
    }

    fn forks_again(&self) -> bool {
        self.pid || self.time
    }

    fn enter(&self, home: ReservedSlot) -> Result<(), WireError> {
        if self.flags == 0 {
            return Ok(());
        }
        let (uid, gid) = process::effective_ids();
        namespace::unshare(self.flags).map_err(|errno| failure::os("fork a worker", errno))?;
        if self.user {
            map_ids(home, uid, gid)?;
        }
        Ok(())
    }
}

/// Requests the executor to map users and groups: only a process outside of the namespace can map more than
/// one. If it cannot, this process maps its own.
fn map_ids(home: ReservedSlot, uid: u32, gid: u32) -> Result<(), WireError> {
    home.offer(PipeEnd::Input, uid.cast_signed());
    home.offer(PipeEnd::Output, gid.cast_signed());
    if !home.hand_over() {
        process::exit(0);
    }
    if file::read("/proc/self/uid_map").is_ok_and(|map| !map.is_empty()) {
        return Ok(());
    }
    process::own_proc_files();
    let write = |name: &str, text: String| {
        let path = format!("/proc/self/{name}");
        file::write_at(libc::AT_FDCWD, &path, text.as_bytes())
            .map_err(|errno| failure::os(format!("write {name}"), errno))
    };
    let _ = write("setgroups", "deny".into());
    write("uid_map", format!("0 {uid} 1"))?;
    write("gid_map", format!("0 {gid} 1"))
}
