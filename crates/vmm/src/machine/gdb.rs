//! A stub for gdb on a running machine.
//!
//! QEMU listens on a port of the loopback device that is free; it has its debugger's socket as a
//! character device called `gdb`, which tells the port. The stub ends with the machine. While a
//! debugger is connected, the machine stands or runs as that says. QEMU has one stub, for one debugger
//! at a time; waking a guest uses it as well, see `wakeup`.

use super::handle::Machine;
use crate::error::VmmError;
use serde_json::Value;

/// The loopback device, and whatever port is free.
const ANY_PORT: &str = "tcp:127.0.0.1:0";

impl Machine {
    /// Where a debugger finds the machine, `127.0.0.1:PORT`; the stub is started by the first call.
    ///
    /// # Errors
    /// As [`Machine::pause`]; [`VmmError::Monitor`] with QEMU's words if it has no stub.
    pub async fn gdb(&self) -> Result<String, VmmError> {
        if let Some(address) = self.gdb_address().await? {
            return Ok(address);
        }
        let said = self.monitor(format!("gdbserver {ANY_PORT}")).await?;
        self.gdb_address()
            .await?
            .ok_or_else(|| self.unexpected(&said))
    }

    async fn gdb_address(&self) -> Result<Option<String>, VmmError> {
        Ok(match self.debugger().await? {
            Debugger::None => None,
            Debugger::Expected(address) | Debugger::Connected(address) => Some(address),
        })
    }

    /// Whom the stub is for.
    pub(super) async fn debugger(&self) -> Result<Debugger, VmmError> {
        let devices = self.answer("query-chardev", Value::Null).await?;
        let mut devices = devices.as_array().into_iter().flatten();
        let stub = devices.find(|device| device["label"] == "gdb");
        let stub = stub.and_then(|stub| debugger_in(stub["filename"].as_str()?));
        Ok(stub.unwrap_or(Debugger::None))
    }
}

/// Whom the stub is for, and where it listens.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Debugger {
    /// There is no stub.
    None,
    /// Nobody is there yet, or any more.
    Expected(String),
    /// Somebody is.
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

/// The address in `disconnected:tcp:127.0.0.1:40123,server=on` or, once somebody is there,
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
