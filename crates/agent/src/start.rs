//! Where the executable begins: what was it started as?

#![expect(
    unsafe_code,
    reason = "the C library calls `main` by name and hands it pointers"
)]

use crate::executor::Root;
use crate::init::power::PowerButton;
use crate::router::{Asks, Duties, Router};
use crate::sys::signal::{self, SignalStream};
use crate::sys::{Errno, process};
use crate::transport::Transport;
use crate::{init, modprobe, roots};
use std::ffi::{c_char, c_int};

/// Not Rust's own `main`: that one ignores SIGPIPE and catches SIGSEGV, for the processes of tests
/// too.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[cfg_attr(test, expect(dead_code, reason = "tests have a main of their own"))]
pub(crate) extern "C" fn main(count: c_int, arguments: *const *mut c_char) -> c_int {
    // SAFETY: the first argument, if there is one.
    let argv0 = if count > 0 {
        unsafe { *arguments }
    } else {
        std::ptr::null_mut()
    };
    let mut words = std::env::args().skip(1);
    let name = std::env::args_os().next().unwrap_or_default();
    if name.as_encoded_bytes().ends_with(b"modprobe") {
        return modprobe::run(words);
    }
    match (
        words.next().as_deref(),
        words.next().map(|number| number.parse()),
    ) {
        (Some("--serve-fd"), Some(Ok(number))) => serve(number),
        _ if process::id() == 1 => init::start(argv0),
        _ => {
            modprobe::complain("provium-agent runs in guests, where Provium starts it");
            2
        }
    }
}

/// Serves on an inherited socket, leaving the machine alone.
fn serve(number: c_int) -> c_int {
    let duties = || -> Result<(Transport, Duties), Errno> {
        signal::default_dispositions();
        signal::block_only(&[libc::SIGCHLD]);
        roots::install_usual()?;
        let duties = Duties {
            is_init: false,
            signals: SignalStream::of(&[libc::SIGCHLD])?,
            power: PowerButton::default(),
            asks: Asks::default(),
            complaints: Vec::new(),
        };
        Ok((Transport::socket(number)?, duties))
    };
    match duties() {
        Ok((transport, duties)) => Router::new(transport, duties, Root::now()).run(),
        Err(errno) => {
            modprobe::complain(&format!(
                "cannot serve on descriptor {number}: errno {}",
                errno.0
            ));
            2
        }
    }
}
