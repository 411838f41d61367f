//! The guest's side of networks: interfaces of NICs, their addresses and routes, names of other guests.
//!
//! ```text
//!   find the interfaces (load the driver, wait for a hot-plug) ─▶ names ─▶ MAC, MTU, up ─▶ addresses ─▶ routes
//!   then the block of `/etc/hosts`
//! ```
//!
//! A request is the whole wanted state. It is compared with what the kernel has, so one that changes
//! nothing reads three lists and writes nothing. [`OwnedSettings`] says what earlier requests have set, which may be
//! removed again.
//!
//! It runs in a process of its own, in the network namespace of the agent, since it may wait for the
//! kernel, for the host and for file systems; see `router/configuration_tasks.rs`.
//!
//! Decisions:
//! - An interface is found by its permanent hardware address, so renames by a guest's `udev` do not matter.
//!   The name that the host wants is set whatever name it has. Beside an init, a name that the kernel has
//!   chosen is given once more, since `udev` leaves alone what a process has named. One that ignores that
//!   wins until the next request.
//! - IPv6 addresses skip duplicate address detection, and it is switched off (`accept_dad`) on an interface
//!   that is brought up here, so that its link-local address is usable at once, too. Router advertisements
//!   (`accept_ra`) are left to the guest: nothing on a bridge sends any unless a test does.
//! - IPv6 is left out if the kernel does not have it, if the guest has switched it off
//!   (`disable_ipv6`), and below its smallest MTU of 1280.

mod carrier;
mod change;
mod configure;
mod counters;
mod drivers;
mod hosts;
mod owned;
mod plan;
mod request;
mod session;
mod state;
mod wire;

pub(crate) use configure::{InterfaceNaming, MODULES, configure};
pub(crate) use counters::count;
pub(crate) use owned::OwnedSettings;
pub(crate) use request::NetworkRequest;
