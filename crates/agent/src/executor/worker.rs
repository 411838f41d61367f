//! Forking a worker: another executor that begins as a copy of this process.

use super::exec::Surroundings;
use super::root::Root;
use crate::failure::{self, OpResult};
use crate::ops::identity;
use crate::roots;
use crate::sys::packet::{self, Waiting};
use crate::sys::process::{self, Forked};
use crate::sys::{Errno, Sys, boot, fd, file};
use provium_protocol::op::WorkerSpec;
use provium_protocol::{CallId, Frame, FrameKind, Lane, Reply, WireError, codec};
use std::os::fd::{AsRawFd, OwnedFd};

/// Forks it. Its own first packet, a reply to call 0 of its lane, says whether it became what it was
/// to be.
pub(super) fn start(
    spec: WorkerSpec,
    lane: Lane,
    socket: OwnedFd,
    root: Root,
    around: &Surroundings,
) -> OpResult {
    let spaces = Namespaces::named(&spec.namespaces)?;
    let outer = identity::effective();
    let ids = spaces.user.then(fd::pipe).transpose();
    let ids = ids.map_err(|errno| failure::os("make a pipe", errno))?;
    // The router shall be its parent, and be told of its end.
    match process::fork(spaces.at_fork | libc::CLONE_PARENT) {
        Ok(Forked::Parent(pid)) => {
            if let Some((_, mapped)) = &ids
                && map_all_ids(pid, outer).is_ok()
            {
                // A worker that is gone is told of by its socket.
                let _ = fd::write_all(mapped.as_raw_fd(), b"y");
            }
            Ok(Reply::Worker {
                lane,
                pid: pid.unsigned_abs(),
            })
        }
        Ok(Forked::Child) => {
            let has_ids = ids.is_some_and(|(answer, mapped)| {
                // Without another writer, the pipe ends if the answer is no.
                drop(mapped);
                matches!(fd::read(answer.as_raw_fd(), &mut [0]), Ok(1))
            });
            let outer = (!has_ids).then_some(outer);
            let result = prepare(&spec, &spaces, outer, around);
            let report = result.as_ref().map(|_| Reply::Done).map_err(Clone::clone);
            let message = codec::encode::<OpResult>(&report);
            let frame = Frame::new(FrameKind::Reply, lane, CallId(0), message);
            let parts = [&frame.to_bytes()[..], &[]];
            let sent = packet::send(socket.as_raw_fd(), parts, None, Waiting::Blocks);
            match result {
                Ok(around) if sent.is_ok() => {
                    super::adopt_socket(socket);
                    super::run(lane, super::Inheritance { root, around })
                }
                _ => process::exit(1),
            }
        }
        Err(errno) => Err(failure::os("fork a worker", errno)),
    }
}

/// Makes every user and group of the guest one of the worker's user namespace, under its number. Only
/// from outside can more than one be mapped, and only by the guest's root.
fn map_all_ids(pid: i32, outer: (u32, u32)) -> Sys<()> {
    if outer.0 != 0 {
        return Err(Errno(libc::EPERM));
    }
    let all = format!("0 0 {}", u32::MAX);
    for map in ["uid_map", "gid_map"] {
        file::write_at(roots::PROC, &format!("{pid}/{map}"), all.as_bytes())?;
    }
    Ok(())
}

/// What the worker does to itself, in the order that lets each step still do what it needs.
fn prepare(
    spec: &WorkerSpec,
    spaces: &Namespaces,
    outer: Option<(u32, u32)>,
    around: &Surroundings,
) -> Result<Surroundings, WireError> {
    spaces.enter(outer)?;
    let mut around = around.clone();
    if let Some(name) = &spec.user {
        let user = identity::find(name)?;
        user.identity
            .assume()
            .map_err(|errno| failure::os(format!("become `{name}`"), errno))?;
        around.user = Some(user);
    }
    if let Some(cwd) = &spec.cwd {
        file::change_dir(cwd).map_err(|errno| {
            failure::os(format!("chdir {}", String::from_utf8_lossy(cwd)), errno)
        })?;
    }
    let added = spec
        .env
        .iter()
        .map(|(name, value)| (name.to_vec(), value.to_vec()));
    around.env.extend(added);
    Ok(around)
}

struct Namespaces {
    at_fork: i32,
    user: bool,
    mounts: bool,
}

impl Namespaces {
    fn named(names: &[String]) -> Result<Self, WireError> {
        let mut spaces = Self {
            at_fork: 0,
            user: false,
            mounts: false,
        };
        for name in names {
            spaces.at_fork |= match name.as_str() {
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
        }
        Ok(spaces)
    }

    /// `outer`: whose ids are still to be mapped.
    fn enter(&self, outer: Option<(u32, u32)>) -> Result<(), WireError> {
        let os = |tried: &'static str| move |errno| failure::os(tried, errno);
        if let (true, Some((uid, gid))) = (self.user, outer) {
            // Its root is whoever made it, and nobody else is in it.
            process::own_proc_files();
            let write = |name: &str, text: String| {
                file::write_at(roots::PROC, &format!("self/{name}"), text.as_bytes())
            };
            let _ = write("setgroups", "deny".into());
            write("uid_map", format!("0 {uid} 1")).map_err(os("write uid_map"))?;
            write("gid_map", format!("0 {gid} 1")).map_err(os("write gid_map"))?;
        }
        if self.mounts {
            boot::make_mounts_private().map_err(os("make mounts private"))?;
        }
        Ok(())
    }
}
