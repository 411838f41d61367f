//! From the kernel's first process to a serving agent.
//!
//! The kernel starts the agent as PID 1 (`rdinit=/.provium/agent`). [`boot`] then reads the
//! [`BootPlan`](provium_protocol::boot::BootPlan), loads the modules it names, finds the way to the
//! host, and decides who PID 1 is:
//!
//! | the image has | PID 1 | serves |
//! |---|---|---|
//! | an init of the plan | that init, with the kernel's arguments | a child of it, [`Booted::is_init`] false |
//! | none | the agent, with [`Pid1Duties`] | the same process |
//!
//! An init of the image finds the file systems as the kernel left them: what the agent needs of
//! procfs and sysfs it mounts detached, under no path.
//!
//! Nothing here waits without a deadline, except for a way to the host when there is none at all.
//! Nothing here speaks the wire: that is the router's, once it has [`Booted`].

mod boot;
mod button;
mod chain;
pub(crate) mod checked;
mod duties;
pub(crate) mod modules;
pub(crate) mod mounts;
mod network;
mod on_demand;
mod shutdown;
pub(crate) mod uevents;

pub(crate) use boot::{Booted, boot};
pub(crate) use duties::{Pid1Duties, Reaped};
pub(crate) use network::set_hostname;
pub(crate) use shutdown::{halt, power_off, reboot};
