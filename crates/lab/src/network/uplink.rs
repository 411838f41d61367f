//! The way from a file's bridges to the network of the host, through the program `passt`.

use crate::network::subnet::member_mac;
use provium_process::{Child, Command, ProcessError, Stdio};
use provium_switch::router::InterfaceId;
use provium_switch::shell::{OpenError, PortSource, RouterTask, StartError, Switch, SwitchStopped};
use provium_switch::{MacAddress, uplink};
use std::fmt;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;

/// The program, and what has it.
const PASST: &str = "passt";
/// The number of the descriptor that `passt` inherits.
const SOCKET: RawFd = 10;
/// How long `passt` may take to answer for its address, before the timeout multiplier.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(10);
/// How often it is asked meanwhile.
const ASK_INTERVAL: Duration = Duration::from_millis(50);
/// Bytes of its error output that are read.
const LONGEST_ERROR: u64 = 4096;

/// The uplink of a file's bridges. Dropping it ends `passt`.
pub(crate) struct Uplink {
    /// The router's interface to it.
    interface: InterfaceId,
    router: Arc<RouterTask>,
    _passt: Child,
    _switch: Switch,
}

/// Why an uplink cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UplinkError {
    #[error(
        "the program `{PASST}` is not installed; install it (Debian, Fedora and Arch call its package \
         `passt`), then run again"
    )]
    NotInstalled,
    #[error("`{PASST}` cannot be started")]
    Start(#[from] ProcessError),
    #[error("`{PASST}` ended at once: {0}")]
    Ended(String),
    #[error("`{PASST}` did not answer within {0:?}")]
    Silent(Duration),
    #[error("no sockets are left")]
    Sockets(#[from] io::Error),
    #[error(transparent)]
    Switch(#[from] StartError),
    #[error(transparent)]
    Stopped(#[from] SwitchStopped),
    #[error(transparent)]
    Port(#[from] OpenError),
}

impl Uplink {
    /// The router's interface to it.
    pub(crate) fn interface(&self) -> InterfaceId {
        self.interface
    }

    /// Starts it for the router; `limit`: how long `passt` may take to answer.
    ///
    /// # Errors
    /// When `passt` is missing or cannot be started.
    pub(crate) async fn start(
        router: Arc<RouterTask>,
        limit: Duration,
    ) -> Result<Self, UplinkError> {
        let switch = Switch::start(0)?;
        let (ours, theirs) = UnixStream::pair()?;
        let mut passt = start_passt(theirs.into())?;
        switch.connect(uplink::port_settings(PASST), ours).await?;
        tokio::select! {
            biased;
            ended = passt.wait() => {
                let _exit = ended?;
                return Err(UplinkError::Ended(error_text(&mut passt).await));
            }
            answered = tokio::time::timeout(limit, answers(&switch)) => {
                answered.map_err(|_| UplinkError::Silent(limit))??;
            }
        }
        let port = PortSource::New(uplink::port_settings("router"));
        let (settings, hops) = (uplink::interface_settings(), uplink::HOPS);
        let interface = router.add_uplink(&switch, port, settings, hops).await?;
        Ok(Self {
            interface,
            router,
            _passt: passt,
            _switch: switch,
        })
    }
}

fn start_passt(socket: OwnedFd) -> Result<Child, UplinkError> {
    let mut command = Command::new(PASST);
    let options = uplink::PasstOptions::default();
    command
        .args(uplink::passt_arguments(SOCKET, options))
        .inherit(SOCKET, socket)
        .stdin(Stdio::Null)
        .stdout(Stdio::Null)
        .stderr(Stdio::Pipe);
    if command.resolve().is_err() {
        return Err(UplinkError::NotInstalled);
    }
    Ok(command.spawn()?)
}

/// What it has written to its error output, on one line.
async fn error_text(passt: &mut Child) -> String {
    let mut text = Vec::new();
    if let Some(stderr) = passt.stderr.take() {
        let _ = stderr.take(LONGEST_ERROR).read_to_end(&mut text).await;
    }
    let text = String::from_utf8_lossy(&text);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Asks for the address of the gateway until there is an answer.
async fn answers(switch: &Switch) -> Result<(), SwitchStopped> {
    let (port, mut frames) = switch.open(uplink::port_settings("probe")).await?;
    let question = arp_request(member_mac(PASST, "probe", 0));
    loop {
        let _ = switch.send(port, question.clone().into()).await?;
        let next = tokio::time::timeout(ASK_INTERVAL, frames.recv()).await;
        if matches!(next, Ok(Some(_))) {
            let _ = switch.remove(port).await?;
            return Ok(());
        }
    }
}

/// Who has the address of the gateway (RFC 826).
fn arp_request(from: MacAddress) -> Vec<u8> {
    let own = uplink::ADDRESS.octets();
    let wanted = uplink::GATEWAY.octets();
    [
        &[0xff; 6][..],
        &from.0,
        // ARP; Ethernet and IPv4 addresses; a request.
        &[0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1],
        &from.0,
        &own,
        &[0; 6],
        &wanted,
    ]
    .concat()
}

impl Drop for Uplink {
    fn drop(&mut self) {
        let interface = self.interface;
        // A router that has stopped has no interfaces.
        let _ = self
            .router
            .change_later(move |router| router.remove_interface(interface));
    }
}

impl fmt::Debug for Uplink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Uplink").field(&self.interface).finish()
    }
}
