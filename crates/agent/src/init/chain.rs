//! Handing process 1 over to the image's own init.

use crate::roots;
use crate::sys::{file, signal, spawn};
use provium_protocol::boot::BootPlan;
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;

/// The inits of the plan that can be run.
pub(super) fn find(plan: &BootPlan) -> Vec<CString> {
    let runs =
        |path: &&String| file::stat(path.as_bytes()).is_ok_and(|found| found.is_executable_file());
    plan.init
        .iter()
        .filter(runs)
        .filter_map(|path| CString::new(path.as_bytes()).ok())
        .collect()
}

fn strings(list: impl Iterator<Item = OsString>) -> Vec<CString> {
    list.filter_map(|text| CString::new(text.into_vec()).ok())
        .collect()
}

/// Becomes the first of the inits that the kernel executes, with what it gave to the agent. If it
/// executes none, that is the machine's end, and the kernel says so.
pub(super) fn become_init(inits: &[CString]) -> ! {
    signal::unblock_all();
    let environment = strings(std::env::vars_os().map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        name
    }));
    for init in inits {
        let mut arguments = vec![init.clone()];
        arguments.extend(strings(std::env::args_os().skip(1)));
        let errno = spawn::replace(init, &arguments, &environment);
        roots::log(&format!(
            "cannot run {}: errno {}",
            init.to_string_lossy(),
            errno.0
        ));
    }
    crate::sys::process::exit(127)
}
