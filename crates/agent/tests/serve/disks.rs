//! Requests about disks, of which none that could change the system is carried out.

use super::host::Host;
use provium_protocol::op::{DiskConfig, SetDisks};
use provium_protocol::{AgentOp, ErrorKind, Lane, Reply};

fn request(serial: &str) -> AgentOp {
    AgentOp::SetDisks(SetDisks {
        disks: vec![DiskConfig {
            serial: serial.to_owned(),
            size: 4096,
            read_only: false,
            is_replaced: true,
            may_have_partitions: false,
            known_as: None,
            mount: None,
        }],
    })
}

#[test]
fn a_request_that_waits_for_a_disk_can_be_cancelled() {
    let mut host = Host::new();
    let first = host.request_agent(&request("no-such-disk"));
    let second = host.request_agent(&request("a/b"));
    assert!(matches!(
        host.ask_agent(&AgentOp::Stats),
        Ok(Reply::Stats(_))
    ));
    assert!(host.calls[&first].reply.is_none());
    host.cancel(Lane::AGENT, first);
    let error = host.finish(first).reply.unwrap().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Cancelled, "{error:?}");
    // One after the other.
    let error = host.finish(second).reply.unwrap().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid, "{error:?}");
    assert!(error.message.starts_with("`a/b` is not a serial number"));
}

#[test]
fn a_disk_that_does_not_come_is_reported() {
    let error = Host::new().ask_agent(&request("no-such-disk")).unwrap_err();
    assert_eq!((error.kind, error.errno), (ErrorKind::Os, libc::ENODEV));
    let expected = "waiting 10 s for the disk `no-such-disk` (there are";
    assert!(error.message.starts_with(expected), "{error:?}");
}
