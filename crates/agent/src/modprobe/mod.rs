//! The guest's `modprobe`: modules come from the host.
//!
//! It is run by the kernel, or by hand, as a process of its own, and asks the router, which asks
//! the host. What it prints and how it exits is what `modprobe(8)` of kmod does, as far as scripts
//! look at it.
//!
//! Configuration files (`modprobe.d`, blacklists) and `modules.dep` are not read: which modules
//! there are, under which aliases, and what they depend on, is the host's knowledge. Parameters on
//! the kernel's command line (`loop.max_part=8`) do count.

mod arguments;
mod command;

pub(crate) use command::run;
