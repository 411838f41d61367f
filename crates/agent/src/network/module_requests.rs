//! Kernel modules that a network needs and the kernel may not have.

use crate::init::modules;
use crate::sys::{Errno, boot, fd, file};
use crate::{failure, module_socket, roots};
use provium_protocol::{HostReply, WireError};
use std::ffi::CString;
use std::os::fd::{OwnedFd, RawFd};

/// The drivers of NICs. What they depend on is the host's knowledge.
pub(super) const DRIVERS: [&str; 2] = ["virtio_pci", "virtio_net"];
pub(super) const IPV6: &str = "ipv6";
/// The modules that a network may need.
pub(crate) const MODULES: [&str; 3] = [DRIVERS[0], DRIVERS[1], IPV6];

/// Whether a module is loaded, or built in with parameters.
pub(super) fn is_loaded(name: &str) -> bool {
    let path = file::path(format!("module/{name}").as_bytes());
    path.is_ok_and(|path| file::stat_at(roots::SYS, &path, 0).is_ok())
}

/// Why a request was not carried out.
#[derive(Debug)]
pub(crate) enum Stop {
    Error(WireError),
    /// It takes [modules](MODULES), and has no sockets to request them on. Nothing of it has failed.
    NeedsModules,
}

impl From<WireError> for Stop {
    fn from(error: WireError) -> Self {
        Self::Error(error)
    }
}

/// Sockets to the router, each for one module. Most requests need none, so they begin without.
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
    /// What could not be loaded, and why; or that it takes a socket.
    pub(super) fn load(&mut self, name: &str) -> Result<bool, Stop> {
        let Some(at) = self.0.iter().position(|(one, _)| *one == name) else {
            return Err(Stop::NeedsModules);
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
                Err(errno) => {
                    let tried = format!("loading the kernel module {}", module.name);
                    return Err(failure::os(tried, errno).into());
                }
            }
        }
        Ok(is_known)
    }
}
