//! Waiting for interfaces: of a NIC that has just been plugged in, or whose driver is not loaded.

use super::change::Mac;
use super::owned::OwnedSettings;
use super::plan::Target;
use super::session::Session;
use super::state::{self, Interface};
use crate::failure;
use crate::module_requests::{self, ModuleRequests, Stop};
use crate::roots;
use crate::sys::{Errno, Sys, file, netlink};
use provium_protocol::WireError;
use provium_protocol::op::NicConfig;
use std::time::{Duration, Instant};

/// The drivers of NICs. What they depend on is the host's knowledge.
pub(super) const DRIVERS: [&str; 2] = ["virtio_pci", "virtio_net"];

/// How long an interface may take to appear. A plug takes a fraction of a second in an emulated guest.
const LIMIT: Duration = Duration::from_secs(10);

/// The interfaces of the guest, once those of all NICs are there.
///
/// One that was there before and has been moved to another network namespace is not waited for: that is
/// the guest's decision.
pub(super) fn await_interfaces(
    session: &mut Session,
    nics: &[NicConfig],
    owned: &OwnedSettings,
    modules: &mut ModuleRequests,
) -> Result<Vec<Interface>, Stop> {
    let tried = |errno| failure::os("listing the network interfaces", errno);
    let events = netlink::interface_events().map_err(tried)?;
    let deadline = Instant::now() + LIMIT;
    let mut unavailable = load_drivers(session, modules)?;
    loop {
        let interfaces = state::interfaces(session, false).map_err(tried)?;
        let (_, missing) = Target::find(nics, &interfaces);
        let were_there = missing.iter().all(|device| owned.has(*device));
        if missing.is_empty() || were_there && moved_interfaces() >= missing.len() {
            return Ok(interfaces);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            unavailable.retain(|_| !has_driver());
            return Err(not_found(&missing, &interfaces, &unavailable).into());
        }
        netlink::await_event(&events, left);
    }
}

/// Loads the drivers; the names of those that are not available. The kernel's own `modprobe` is asked for
/// what the host does not have.
fn load_drivers(
    session: &Session,
    modules: &mut ModuleRequests,
) -> Result<Vec<&'static str>, Stop> {
    let mut unavailable = Vec::new();
    let absent = |name: &&str| !module_requests::is_loaded(name);
    for name in DRIVERS.into_iter().filter(absent) {
        if !modules.load(name)? {
            netlink::load_module_by_kernel(session.fd(), name);
            unavailable.push(name);
        }
    }
    Ok(unavailable)
}

const DRIVER: &[u8] = b"bus/virtio/drivers/virtio_net";

fn driver_folder() -> Sys<Vec<provium_protocol::message::DirEntry>> {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
    file::list(file::open_at(roots::SYS, &file::path(DRIVER)?, flags, 0)?)
}

fn has_driver() -> bool {
    driver_folder().is_ok()
}

/// How many NICs have a driver and no interface in this namespace.
fn moved_interfaces() -> usize {
    let devices = driver_folder().unwrap_or_default();
    let devices = devices.iter().filter(|one| one.name.starts_with(b"virtio"));
    let has_interface = |name: &[u8]| {
        let flags = libc::O_RDONLY | libc::O_DIRECTORY;
        let path = file::path(&[DRIVER, b"/", name, b"/net"].concat())?;
        let interfaces = file::list(file::open_at(roots::SYS, &path, flags, 0)?)?;
        Ok::<bool, Errno>(!interfaces.is_empty())
    };
    devices
        .filter(|device| !has_interface(&device.name).unwrap_or(false))
        .count()
}

fn not_found(missing: &[[u8; 6]], interfaces: &[Interface], unavailable: &[&str]) -> WireError {
    let missing: Vec<String> = missing
        .iter()
        .map(|device| Mac(device).to_string())
        .collect();
    let present: Vec<String> = interfaces.iter().map(described).collect();
    let mut tried = format!(
        "waiting {} s for the interface of the NIC {} (there are: {})",
        LIMIT.as_secs(),
        missing.join(", "),
        present.join(", ")
    );
    if !unavailable.is_empty() {
        let names = unavailable.join(", ");
        tried.push_str(&format!("; no kernel module {names} is available"));
    }
    failure::os(tried, Errno(libc::ENODEV))
}

fn described(interface: &Interface) -> String {
    match &interface.permanent_mac {
        Some(device) => format!("{} with {}", interface.name, Mac(device)),
        None => interface.name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use provium_protocol::op::NicCounters;

    #[test]
    fn a_missing_interface_is_reported_with_those_that_there_are() {
        let interface = |name: &str, permanent_mac| Interface {
            index: 1,
            name: name.to_owned(),
            hardware: 1,
            mac: Vec::new(),
            permanent_mac,
            mtu: 0,
            is_up: false,
            is_running: false,
            ipv6: None,
            counters: NicCounters::default(),
        };
        let present = [
            interface("lo", None),
            interface("enp1s0", Some([0x52, 0x54, 0, 0x70, 0x76, 0])),
        ];
        let error = not_found(&[[0x52, 0x54, 0, 0x70, 0x76, 1]], &present, &["virtio_net"]);
        assert_eq!(
            error.message,
            "waiting 10 s for the interface of the NIC 52:54:00:70:76:01 (there are: lo, enp1s0 \
             with 52:54:00:70:76:00); no kernel module virtio_net is available"
        );
        assert_eq!(error.errno, libc::ENODEV);
    }
}
