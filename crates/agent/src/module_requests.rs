//! Kernel modules that a request to the agent needs and the kernel may not have.

use crate::init::modules;
use crate::sys::{Errno, boot, fd, file};
use crate::{failure, module_socket, roots};
use provium_protocol::{HostReply, WireError};
use std::ffi::CString;
use std::os::fd::{OwnedFd, RawFd};

/// Whether a module is loaded, or built in with parameters.
pub(crate) fn is_loaded(name: &str) -> bool {
    let path = file::path(format!("module/{name}").as_bytes());
    path.is_ok_and(|path| file::stat_at(roots::SYS, &path, 0).is_ok())
}

/// Why a request was not carried out.
#[derive(Debug)]
pub(crate) enum Stop {
    Error(WireError),
    /// It takes modules, and has no sockets to request them on. Nothing of it has failed.
    NeedsModules,
}

impl From<WireError> for Stop {
    fn from(error: WireError) -> Self {
        Self::Error(error)
    }
}

/// Sockets to the router, each for one module. Most requests need none, so they begin without.
#[derive(Debug)]
pub(crate) struct ModuleRequests(Vec<(String, OwnedFd)>);

impl ModuleRequests {
    /// Takes ownership of the sockets.
    pub(crate) fn of(sockets: &[(String, RawFd)]) -> Self {
        let owned = sockets
            .iter()
            .map(|(name, socket)| (name.clone(), fd::own(*socket)));
        Self(owned.collect())
    }

    /// Loads a module, by its name or an alias, with what it depends on; false if the host does not have it.
    ///
    /// # Errors
    /// What could not be loaded, and why; or that it takes a socket.
    pub(crate) fn load(&mut self, name: &str) -> Result<bool, Stop> {
        let Some(at) = self.0.iter().position(|(one, _)| one == name) else {
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
