//! The guest's executable: carries out what the host asks, and keeps out of the way otherwise.
//!
//! | started as | it is |
//! |---|---|
//! | process 1, by `rdinit=/.provium/agent` | the agent: [`init`] prepares the machine, then the [`router`] serves |
//! | process 1, under any name, without a boot plan | the agent of an image that brings it: it mounts what is missing, then serves |
//! | another process, under any name, without arguments | the agent beside an init: it changes nothing, and serves |
//! | `…/modprobe` | the kernel's or a user's request for a [module](modprobe), passed on to the host |
//! | `provium-agent --port N` | a program that waits until it is killed |
//! | `provium-agent --serve-fd N` | the agent on a socket that it inherited, without touching the machine (for tests) |
//!
//! Processes: the *router* owns the line to the host. The *executor*, its child, starts what a test
//! wants and owns its pipes. A *raw process* for the VM and for each worker makes raw calls, and is
//! what files and commands take their state from; see [`raw_process`].

#![cfg_attr(not(test), no_main)]

mod allocator;
mod disks;
mod executor;
mod failure;
mod init;
mod modprobe;
mod module_requests;
mod module_socket;
mod network;
mod ops;
mod raw_process;
mod roots;
mod router;
mod start;
mod stderr;
mod sys;
mod transport;
