//! QEMU's arguments for a specification. Pure: the same specification gives the same list.
//!
//! The machine is a q35 with as little in it as a guest needs: a console UART, the agent's
//! virtio-serial port and its spare UART, a random number generator and a pvpanic device.

use crate::accel::Accel;
use crate::device::bus::HOTPLUG_BUS;
use crate::device::{DiskDevice, NicSlot};
use crate::spec::{AGENT_PORT, MachineSpec};

/// Numbers of the files that QEMU inherits.
pub(crate) mod fd {
    /// The control socket.
    pub(crate) const QMP: i32 = 10;
    /// The first UART.
    pub(crate) const CONSOLE: i32 = 11;
    /// The agent's virtio-serial port.
    pub(crate) const AGENT: i32 = 12;
    /// The second UART, for guests without a virtio console.
    pub(crate) const AGENT_UART: i32 = 13;
    /// The entropy daemon's socket, if there is a seed.
    pub(crate) const ENTROPY: i32 = 14;
    /// The initial RAM disk, if there is one.
    pub(crate) const INITRD: i32 = 15;
    /// The file of the guest's RAM.
    pub(crate) const RAM: i32 = 16;
    /// The devices' state, if the machine is restored.
    pub(crate) const DEVICES: i32 = 17;
    /// The NICs' sockets, by the numbers of their slots.
    pub(crate) const NICS: i32 = 20;
}

/// QEMU's name for the device of the agent's virtio-serial port, by which its events name it.
pub(crate) const AGENT_PORT_ID: &str = "agent-port";

/// Limits what a QEMU can do that a guest has taken over.
pub(crate) const SANDBOX: &str =
    "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// What the arguments depend on beside the specification.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LaunchContext {
    /// The build has seccomp.
    pub(crate) sandbox: bool,
    /// There is an initial RAM disk.
    pub(crate) initrd: bool,
    /// The machine waits for a saved state.
    pub(crate) restored: bool,
    /// The file of the guest's RAM is opened read-only; see [`Qemu::maps_read_only`].
    ///
    /// [`Qemu::maps_read_only`]: crate::Qemu::maps_read_only
    pub(crate) read_only_ram: bool,
}

/// The arguments. A restored machine has those of the saved one, and waits for its state.
pub(crate) fn arguments(spec: &MachineSpec, context: LaunchContext) -> Vec<String> {
    let mut list = List::default();
    list.add(
        "-name",
        format!("guest={},debug-threads=on", escaped(&spec.name)),
    );
    // Only the devices named here exist; no configuration file of the user or the host adds to them.
    for flag in ["-nodefaults", "-no-user-config"] {
        list.flag(flag);
    }
    list.add("-display", "none");
    if context.sandbox {
        list.add("-sandbox", SANDBOX);
    }
    // The vCPUs do not start before the control socket is connected, so no event is missed.
    list.flag("-S");
    if context.restored {
        list.add("-incoming", "defer");
    }
    machine(&mut list, spec, context.read_only_ram);
    // A reboot reboots, a power-off ends the process, and a panic stops the vCPUs, so that a dead guest uses
    // no processor time and its memory can still be examined, unless `PanicAction` says otherwise.
    list.add("-action", "reboot=reset,shutdown=poweroff,panic=pause");
    list.add("-rtc", rtc(spec.initial_time_ns));

    socket(&mut list, "qmp", fd::QMP);
    list.add("-mon", "chardev=qmp,mode=control");
    // The first one is the guest's COM1, `ttyS0`.
    socket(&mut list, "console", fd::CONSOLE);
    list.add("-serial", "chardev:console");
    socket(&mut list, "agent-uart", fd::AGENT_UART);
    list.add("-serial", "chardev:agent-uart");
    list.add("-device", "virtio-serial-pci,id=agent-bus,max_ports=2");
    socket(&mut list, "agent", fd::AGENT);
    list.add(
        "-device",
        format!(
            "virtserialport,id={AGENT_PORT_ID},bus=agent-bus.0,chardev=agent,name={AGENT_PORT}"
        ),
    );
    if spec.rng_seed.is_some() {
        socket(&mut list, "entropy", fd::ENTROPY);
        list.add("-object", "rng-egd,id=rng,chardev=entropy");
    } else {
        list.add("-object", "rng-builtin,id=rng");
    }
    list.add("-device", "virtio-rng-pci,id=rng-device,rng=rng");
    list.add("-device", "pvpanic");
    // Each process has another identifier, so the kernel of a restored guest rekeys its random generator
    // before the agent gets its first request.
    list.add("-device", "vmgenid,guid=auto");
    bus(&mut list);
    nics(&mut list, &spec.nics);
    disks(&mut list, &spec.disks);

    list.add("-kernel", spec.kernel.as_str());
    if context.initrd {
        list.add("-initrd", format!("/proc/self/fd/{}", fd::INITRD));
    }
    if !spec.cmdline.is_empty() {
        list.add("-append", spec.cmdline.as_str());
    }
    list.0
}

/// The bus for hot-plug.
fn bus(list: &mut List) {
    // A conventional bridge has 32 places in one device, and the guest's ACPI tables describe them, so Linux
    // plugs at once (`acpiphp`), while SHPC and PCIe's own hot-plug wait 5 s. It has no interrupt to set up
    // (SHPC, MSI). The firmware leaves a window for what comes later, 20 KiB a device. Additional guest instructions of
    // a boot, and processor time where it could be measured, within 2 %:
    //   this bridge                                     1.3 %   3 %
    //   pcie-root-port and pcie-pci-bridge              1.8 %   5 %
    //   4 pcie-root-ports                               1.0 %
    //   16 pcie-root-ports, 8 functions to a slot       4.9 %  17 %
    list.add(
        "-device",
        format!(
            "pci-bridge,id={HOTPLUG_BUS},bus=pcie.0,addr=10,chassis_nr=1,shpc=off,msi=off,io-reserve=0,\
             mem-reserve=1M,pref32-reserve=0"
        ),
    );
}

/// The NICs that are there at launch.
fn nics(list: &mut List, nics: &[NicSlot]) {
    let mut nics = nics.to_vec();
    nics.sort_unstable();
    for slot in nics {
        let fd = fd::NICS + i32::from(u8::from(slot));
        list.add("-netdev", slot.netdev(&fd.to_string()).to_string());
        list.add("-device", slot.device().to_string());
    }
}

/// The disks that are there at launch, with placeholders.
fn disks(list: &mut List, disks: &[DiskDevice]) {
    let mut disks: Vec<&DiskDevice> = disks.iter().collect();
    disks.sort_unstable();
    for disk in disks {
        list.add("-blockdev", disk.placeholder().to_string());
        let node = disk.slot.node(0);
        list.add("-device", disk.device(&node).to_string());
    }
}

fn machine(list: &mut List, spec: &MachineSpec, read_only_ram: bool) {
    // Hardware that no test guest needs is disabled. The gain in boot time is too small to measure (as with
    // `pit=off`, `i8042=off`, `tb-size=`, `thread=`), but there is less to emulate.
    list.add(
        "-machine",
        "q35,memory-backend=ram,vmport=off,smm=off,hpet=off,usb=off,sata=off,smbus=off,\
         suppress-vmdesc=on",
    );
    // A saved state is the devices' alone, without these two sections around it.
    list.add("-global", "migration.send-configuration=off");
    list.add("-accel", spec.accel.as_str());
    list.add("-cpu", cpu_model(spec.accel));
    list.add("-smp", spec.cpus.to_string());
    let mib = spec.memory_mib();
    // A private mapping: pages that the machine writes are its own, pages that it only reads are shared.
    let access = if read_only_ram {
        ",readonly=on,rom=off"
    } else {
        ""
    };
    list.add(
        "-object",
        format!(
            "memory-backend-file,id=ram,size={mib}M,share=off{access},mem-path=/proc/self/fd/{}",
            fd::RAM
        ),
    );
    list.add("-m", format!("{mib}M"));
}

/// The vCPUs' model: all that the host's CPU, or TCG, can do. But TCG does `rep movsb` byte by byte,
/// so Linux must not take it for the fastest way to copy: a boot is 0.17 s of 1.75 s faster. Models
/// with fewer features (`Nehalem`, `qemu64`, `EPYC`) gain nothing on top of that.
pub(crate) fn cpu_model(accel: Accel) -> &'static str {
    match accel {
        Accel::Kvm => "host",
        Accel::Tcg => "max,erms=off,fsrm=off",
    }
}

fn socket(list: &mut List, id: &str, fd: i32) {
    list.add("-chardev", format!("socket,id={id},fd={fd}"));
}

/// `clock=host`: the guest's hardware clock keeps running while the guest is paused, as a real one does.
fn rtc(initial_time_ns: Option<i64>) -> String {
    match initial_time_ns {
        None => "base=utc,clock=host".to_owned(),
        Some(ns) => format!(
            "base={},clock=host",
            date_time(ns.div_euclid(1_000_000_000))
        ),
    }
}

/// `2024-02-29T12:00:00` for seconds since the epoch, in UTC. The arithmetic counts in years that
/// start in March, so that the leap day is the last one.
fn date_time(seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Day 0 is the first of March of the year 0; 146097 days make 400 years.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// Escapes a value for QEMU's option lists, where a double comma is a comma.
fn escaped(value: &str) -> String {
    value.replace(',', ",,")
}

#[derive(Default)]
struct List(Vec<String>);

impl List {
    fn add(&mut self, option: &str, value: impl Into<String>) {
        self.flag(option);
        self.0.push(value.into());
    }

    fn flag(&mut self, option: &str) {
        self.0.push(option.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::disk::tests::disk;
    use crate::spec::tests::spec;

    /// One option a line.
    fn shown(spec: &MachineSpec, initrd: bool) -> String {
        let context = LaunchContext {
            sandbox: true,
            initrd,
            ..LaunchContext::default()
        };
        arguments(spec, context).join(" ").replace(" -", "\n-")
    }

    #[test]
    fn a_restored_machine_is_the_same_one() {
        let cold = arguments(&spec(), LaunchContext::default());
        let restored = LaunchContext {
            restored: true,
            ..LaunchContext::default()
        };
        let mut restored = arguments(&spec(), restored);
        restored.retain(|word| !["-incoming", "defer"].contains(&word.as_str()));
        assert_eq!(restored, cold);
    }

    #[test]
    fn a_read_only_file_of_ram_is_mapped_writable() {
        let context = LaunchContext {
            read_only_ram: true,
            ..LaunchContext::default()
        };
        let ram = arguments(&spec(), context);
        let ram = ram
            .iter()
            .find(|word| word.starts_with("memory-backend-file"));
        let expected = "memory-backend-file,id=ram,size=256M,share=off,readonly=on,rom=off,mem-path=/proc/self/fd/16";
        assert_eq!(ram.unwrap(), expected);
    }

    #[test]
    fn a_plain_machine() {
        insta::assert_snapshot!(shown(&spec(), true));
    }

    #[test]
    fn a_machine_with_everything() {
        let spec = MachineSpec {
            name: "a,b".to_owned(),
            memory: (1 << 30) + 1,
            cpus: 4,
            accel: Accel::Kvm,
            rng_seed: Some(0),
            initial_time_ns: Some(951_825_599_500_000_000),
            cmdline: String::new(),
            nics: [7, 0].into_iter().filter_map(NicSlot::new).collect(),
            disks: vec![disk(19, "logs", true), disk(0, "data", false)],
            ..spec()
        };
        insta::assert_snapshot!(shown(&spec, false));
    }

    #[test]
    fn dates_are_right() {
        assert_eq!(date_time(0), "1970-01-01T00:00:00");
        assert_eq!(date_time(951_782_400), "2000-02-29T00:00:00");
        assert_eq!(date_time(951_868_799), "2000-02-29T23:59:59");
        assert_eq!(date_time(1_709_251_199), "2024-02-29T23:59:59");
        assert_eq!(date_time(4_102_444_800), "2100-01-01T00:00:00");
        assert_eq!(date_time(-1), "1969-12-31T23:59:59");
    }
}
