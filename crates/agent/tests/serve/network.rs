//! Requests about the network, in namespaces in which they harm nothing.

use super::host::{AGENT, Host};
use provium_protocol::op::{HostEntry, NicConfig, ReadNicCounters, SetNetwork};
use provium_protocol::{AgentOp, ErrorKind, Lane, Reply};
use std::path::PathBuf;
use std::process::Command;

const NO_SUCH_DEVICE: [u8; 6] = [0x52, 0x54, 0, 0x70, 0x76, 0xfe];

/// Runs what follows it in namespaces of its own, with an empty folder for `/etc`.
fn isolated(etc: &str) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--net", "--mount", "sh", "-c"])
        .args(["mount --bind \"$0\" /etc && exec \"$@\"", etc]);
    command
}

/// A folder for `/etc`, and an agent that sees it.
struct IsolatedAgent {
    host: Host,
    etc: PathBuf,
}

impl IsolatedAgent {
    /// `None` where an ordinary user may not make namespaces.
    fn start(name: &str) -> Option<Self> {
        let etc = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&etc).unwrap();
        let path = etc.to_str().unwrap();
        let allowed = isolated(path).arg("true").output().unwrap();
        if !allowed.status.success() {
            let said = String::from_utf8_lossy(&allowed.stderr);
            assert!(said.contains("not permitted"), "{said}");
            return None;
        }
        let host = Host::of(isolated(path).arg(AGENT));
        Some(Self { host, etc })
    }
}

impl Drop for IsolatedAgent {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.etc);
    }
}

/// A request that waits for a NIC which does not come.
fn waiting() -> AgentOp {
    AgentOp::SetNetwork(SetNetwork {
        nics: vec![NicConfig {
            device_mac: NO_SUCH_DEVICE,
            name: "eth0".to_owned(),
            mac: [2; 6],
            mtu: 1500,
            addresses: Vec::new(),
            routes: Vec::new(),
            has_carrier: false,
        }],
        hosts: Vec::new(),
    })
}

const COUNT: AgentOp = AgentOp::ReadNicCounters(ReadNicCounters {
    device_mac: NO_SUCH_DEVICE,
});

#[test]
fn a_request_that_waits_keeps_only_requests_about_the_network_waiting() {
    let Some(IsolatedAgent { ref mut host, .. }) = IsolatedAgent::start("provium-serve-waiting")
    else {
        return;
    };
    let first = host.request_agent(&waiting());
    let second = host.request_agent(&waiting());
    let third = host.request_agent(&COUNT);
    assert!(matches!(
        host.ask_agent(&AgentOp::Stats),
        Ok(Reply::Stats(_))
    ));
    assert!(
        [first, second, third]
            .iter()
            .all(|call| host.calls[call].reply.is_none())
    );
    // One that has not begun, and one that has.
    for call in [second, first] {
        host.cancel(Lane::AGENT, call);
        let error = host.finish(call).reply.unwrap().unwrap_err();
        assert_eq!(error.kind, ErrorKind::Cancelled, "{error:?}");
    }
    let error = host.finish(third).reply.unwrap().unwrap_err();
    assert_eq!(error.errno, libc::ENODEV);
    assert_eq!(
        error.message,
        "finding the interface of the NIC 52:54:00:70:76:fe"
    );
}

#[test]
fn a_nic_that_does_not_come_is_reported_with_what_there_is() {
    let Some(IsolatedAgent { ref mut host, .. }) = IsolatedAgent::start("provium-serve-missing")
    else {
        return;
    };
    let error = host.ask_agent(&waiting()).unwrap_err();
    assert_eq!((error.kind, error.errno), (ErrorKind::Os, libc::ENODEV));
    let expected = "waiting 10 s for the interface of the NIC 52:54:00:70:76:fe (there are: lo)";
    assert!(error.message.starts_with(expected), "{error:?}");
}

#[test]
fn a_new_session_ends_a_request_that_waits() {
    let Some(IsolatedAgent { ref mut host, .. }) = IsolatedAgent::start("provium-serve-session")
    else {
        return;
    };
    host.request_agent(&waiting());
    host.greet(8);
    // Without the end of the first it would have to wait.
    let error = host.ask_agent(&COUNT).unwrap_err();
    assert_eq!(error.errno, libc::ENODEV);
}

#[test]
fn host_names_are_kept_in_a_block_of_the_hosts_file() {
    let Some(mut isolated) = IsolatedAgent::start("provium-serve-hosts") else {
        return;
    };
    let file = isolated.etc.join("hosts");
    let own = "127.0.0.1 localhost\n# mine\n";
    std::fs::write(&file, own).unwrap();
    // Thousands, so that the request takes several frames.
    let entry = |number: u16| HostEntry {
        address: [10, 0, number.to_be_bytes()[0], number.to_be_bytes()[1]].into(),
        names: vec![format!("vm{number}.lan")],
    };
    let mut set = |hosts: Vec<HostEntry>| {
        let request = SetNetwork {
            nics: Vec::new(),
            hosts,
        };
        let reply = isolated.host.ask_agent(&AgentOp::SetNetwork(request));
        assert_eq!(reply, Ok(Reply::Done));
        std::fs::read_to_string(&file).unwrap()
    };
    let written = set((0..5000).map(entry).collect());
    assert!(written.starts_with(own));
    let expected = "\n10.0.19.135\tvm4999.lan\n# end provium\n";
    assert!(written.ends_with(expected), "{written}");
    assert_eq!(set(Vec::new()), own);
}

#[test]
fn an_invalid_request_is_refused() {
    let mut host = Host::new();
    let request = AgentOp::SetNetwork(SetNetwork {
        nics: Vec::new(),
        hosts: vec![HostEntry {
            address: [10, 0, 0, 1].into(),
            names: vec!["a b".to_owned()],
        }],
    });
    let error = host.ask_agent(&request).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert_eq!(error.message, "`a b` is not a host name");
}
