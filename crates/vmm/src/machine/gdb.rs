//! QEMU's gdbstub on a running machine.
//!
//! QEMU listens on a free port of the loopback device. The debugger's socket is a character device called
//! `gdb`, whose description has the port. The stub ends with the machine. While a debugger is connected, it
//! decides whether the machine runs. QEMU has one stub, for one debugger at a time; waking a guest uses it
//! as well, see `wakeup`.

use super::control::Control;
use super::handle::Machine;
use crate::error::VmmError;
use serde_json::Value;

/// The loopback device, and any free port.
const ANY_PORT: &str = "tcp:127.0.0.1:0";

impl Machine {
    /// The address for a debugger, `127.0.0.1:PORT`; the first call starts the stub.
    ///
    /// # Errors
    /// As [`Machine::pause`]; [`VmmError::Monitor`] with what QEMU printed if it cannot start its stub.
    pub async fn gdb(&self) -> Result<String, VmmError> {
        if let Some(address) = address(&self.control).await? {
            return Ok(address);
        }
        let printed = self.control.human(format!("gdbserver {ANY_PORT}")).await?;
        let address = address(&self.control).await?;
        address.ok_or_else(|| self.control.unexpected(&printed))
    }
}

async fn address(control: &Control) -> Result<Option<String>, VmmError> {
    Ok(match debugger(control).await? {
        Debugger::None => None,
        Debugger::Expected(address) | Debugger::Connected(address) => Some(address),
    })
}

/// The state of the stub.
pub(super) async fn debugger(control: &Control) -> Result<Debugger, VmmError> {
    let devices = control.query("query-chardev", Value::Null).await?;
    let mut devices = devices.as_array().into_iter().flatten();
    let stub = devices.find(|device| device["label"] == "gdb");
    let stub = stub.and_then(|stub| debugger_in(stub["filename"].as_str()?));
    Ok(stub.unwrap_or(Debugger::None))
}

/// The state of the stub, and where it listens.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Debugger {
    /// The stub is not started.
    None,
    /// No debugger is connected.
    Expected(String),
    /// A debugger is connected.
    Connected(String),
}

fn debugger_in(filename: &str) -> Option<Debugger> {
    let address = address_in(filename)?;
    Some(if filename.starts_with("disconnected:") {
        Debugger::Expected(address)
    } else {
        Debugger::Connected(address)
    })
}

/// The address in `disconnected:tcp:127.0.0.1:40123,server=on` or, once one is connected,
/// `tcp:127.0.0.1:40123,server=on <-> 127.0.0.1:51234`.
fn address_in(filename: &str) -> Option<String> {
    let (_, rest) = filename.split_once("tcp:")?;
    let address = rest.split(',').next()?;
    address
        .parse::<std::net::SocketAddr>()
        .ok()
        .map(|address| address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_with_and_without_a_debugger() {
        let address = || "127.0.0.1:40123".to_owned();
        assert_eq!(
            debugger_in("disconnected:tcp:127.0.0.1:40123,server=on"),
            Some(Debugger::Expected(address()))
        );
        assert_eq!(
            debugger_in("tcp:127.0.0.1:40123,server=on <-> 127.0.0.1:51234"),
            Some(Debugger::Connected(address()))
        );
        assert_eq!(debugger_in("unix:/x"), None);
    }
}
