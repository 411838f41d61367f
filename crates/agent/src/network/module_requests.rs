//! Kernel modules that a network needs and the kernel may not have.

use crate::init::modules;
use crate::sys::{Errno, boot, fd, file};
use crate::{module_socket, roots};
use provium_protocol::HostReply;
use provium_protocol::op::SetNetwork;
use std::ffi::CString;
use std::os::fd::{OwnedFd, RawFd};

/// The drivers of NICs. What they depend on is the host's knowledge.
pub(super) const DRIVERS: [&str; 2] = ["virtio_pci", "virtio_net"];
pub(super) const IPV6: &str = "ipv6";
/// Exists if the kernel has IPv6.
const IPV6_ADDRESSES: &str = "self/net/if_inet6";

/// The modules that the kernel seems to lack.
pub(crate) fn needed_modules(request: &SetNetwork) -> Vec<&'static str> {
    let mut needed = Vec::new();
    if !request.nics.is_empty() {
        needed.extend(DRIVERS.iter().filter(|name| !is_loaded(name)));
    }
    let addresses = request.nics.iter().flat_map(|nic| &nic.addresses);
    if addresses.into_iter().any(|one| one.address.is_ipv6()) && !has_ipv6() {
        needed.push(IPV6);
    }
    needed
}

fn is_loaded(name: &str) -> bool {
    let path = file::path(format!("module/{name}").as_bytes());
    path.is_ok_and(|path| file::stat_at(roots::SYS, &path, 0).is_ok())
}

pub(super) fn has_ipv6() -> bool {
    let path = file::path(IPV6_ADDRESSES.as_bytes());
    path.is_ok_and(|path| file::stat_at(roots::PROC, &path, 0).is_ok())
}

/// Sockets to the router, each for one module.
#[derive(Debug)]
pub(crate) struct ModuleRequests(Vec<(&'static str, OwnedFd)>);

impl ModuleRequests {
    /// Takes ownership of the sockets.
    pub(crate) fn of(sockets: &[(&'static str, RawFd)]) -> Self {
        let owned = sockets
            .iter()
            .map(|(name, socket)| (*name, fd::own(*socket)));
        Self(owned.collect())
    }

    /// Loads a module with what it depends on; false if the host does not have it.
    ///
    /// # Errors
    /// What could not be loaded, and why.
    pub(super) fn load(&mut self, name: &str) -> Result<bool, (String, Errno)> {
        let Some(at) = self.0.iter().position(|(one, _)| *one == name) else {
            return Ok(true);
        };
        let (_, socket) = self.0.swap_remove(at);
        let Some(HostReply::Modules(files)) = module_socket::request_on(&socket, name) else {
            return Ok(false);
        };
        let cmdline = file::read_at(roots::PROC, "cmdline").unwrap_or_default();
        let cmdline = String::from_utf8_lossy(&cmdline);
        let is_known = !files.is_empty();
        // Those without an object are built in.
        for module in files.iter().filter(|module| !module.object.is_empty()) {
            let parameters = CString::new(modules::parameters(&module.name, &cmdline));
            let loaded = parameters
                .map_err(|_| Errno::INVAL)
                .and_then(|parameters| boot::load_module(&module.object, &parameters));
            match loaded {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err((module.name.clone(), errno)),
            }
        }
        Ok(is_known)
    }
}
