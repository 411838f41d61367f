//! The resource limits of this process (`getrlimit(2)`): raised for its own work, and
//! restored to the caller's for commands of the user.

use std::ffi::c_int;
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::sys;

/// Resources that a run may exhaust.
const RAISED: [(Resource, c_int); 5] = [
    (Resource::Nofile, libc::RLIMIT_NOFILE as c_int),
    (Resource::Nproc, libc::RLIMIT_NPROC as c_int),
    (Resource::Fsize, libc::RLIMIT_FSIZE as c_int),
    (Resource::As, libc::RLIMIT_AS as c_int),
    (Resource::Data, libc::RLIMIT_DATA as c_int),
];

/// The limits that were raised, as they were before.
static ORIGINAL: OnceLock<Vec<(c_int, libc::rlimit)>> = OnceLock::new();

/// Raises the soft limits of open files, processes, file size and memory to the hard ones, and
/// ignores SIGXFSZ, so that a file that may not grow is an error of its writer and not the end
/// of the process. Call it once, before there is another thread. Children inherit the raised limits
/// unless their [`Command`](crate::Command) has the
/// [original ones](crate::Command::original_limits).
pub fn raise_limits() {
    sys::ignore(libc::SIGXFSZ);
    let mut original = Vec::new();
    for (resource, number) in RAISED {
        let limit = getrlimit(resource);
        if limit.current == limit.maximum {
            continue;
        }
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        // Linux bounds the hard limit itself, so this fails only where a sandbox forbids it.
        if setrlimit(resource, raised).is_ok() {
            original.push((number, of(limit)));
        }
    }
    // A second call would take the raised limits for the original ones.
    let _ = ORIGINAL.set(original);
}

/// Maximum number of open files of this process.
pub fn max_open_files() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Maximum size of its address space, bytes; `None` without a limit.
pub fn max_address_space() -> Option<u64> {
    getrlimit(Resource::As).current
}

/// The original values of the raised limits, for a child.
pub(crate) fn original() -> Vec<(c_int, libc::rlimit)> {
    ORIGINAL.get().cloned().unwrap_or_default()
}

fn of(limit: Rlimit) -> libc::rlimit {
    libc::rlimit {
        rlim_cur: limit.current.unwrap_or(libc::RLIM_INFINITY),
        rlim_max: limit.maximum.unwrap_or(libc::RLIM_INFINITY),
    }
}
