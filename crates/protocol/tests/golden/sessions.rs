//! Hellos, the boot plan, the version.

use crate::golden;
use provium_protocol::boot::{BootPlan, RootDisk};
use provium_protocol::{Hello, HostHello, PROTOCOL_VERSION};

#[test]
fn version() {
    assert_eq!(
        PROTOCOL_VERSION, 10,
        "the golden bytes in this folder are of version 10"
    );
}

#[test]
fn host_hello() {
    golden! {
        HostHello {
            protocol: 1,
            build: "b1".to_owned(),
            session: 2,
        } => b"\x93\x01\xa2b1\x02",
        HostHello {
            protocol: 1,
            build: String::new(),
            session: u64::MAX,
        } => b"\x93\x01\xa0\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
    }
}

#[test]
fn hello() {
    golden! {
        Hello {
            protocol: 1,
            build: "b1".to_owned(),
            session: 2,
            kernel: "6.1.0".to_owned(),
            is_init: true,
            uptime_ns: 300,
            warnings: vec!["no".to_owned()],
        } => b"\x97\x01\xa2b1\x02\xa56.1.0\xc3\xcd\x01,\x91\xa2no",
    }
}

#[test]
fn boot_plan() {
    golden! {
        BootPlan {
            modules: vec!["/m/a.ko".to_owned()],
            init: vec!["/init".to_owned()],
            hostname: "web".to_owned(),
            modules_on_demand: true,
            root_disk: Some(RootDisk {
                serial: "root".to_owned(),
                filesystem: "ext4".to_owned(),
            }),
        } => b"\x95\x91\xa7/m/a.ko\x91\xa5/init\xa3web\xc3\x92\xa4root\xa4ext4",
        BootPlan::default() => b"\x95\x90\x90\xa0\xc2\xc0",
    }
}
