//! Commands to a machine's QEMU: each has a deadline, and each error names the machine.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use provium_qmp::{Client, QmpError};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::error::VmmError;

/// QEMU's main loop answers in milliseconds; a host that swaps makes it seconds.
const COMMAND_DEADLINE: Duration = Duration::from_secs(30);

/// The control socket of one machine.
#[derive(Clone, Debug)]
pub(super) struct Control {
    machine: String,
    client: Client,
}

impl Control {
    pub(super) fn new(machine: String, client: Client) -> Self {
        Self { machine, client }
    }

    /// The same socket, for a machine that is called `machine` from now on.
    pub(super) fn renamed(self, machine: String) -> Self {
        Self { machine, ..self }
    }

    /// The machine's name.
    pub(super) fn machine(&self) -> &str {
        &self.machine
    }

    /// The connection, for commands without this deadline.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Runs a command without arguments, and ignores its result.
    ///
    /// # Errors
    /// This and the following: [`VmmError::Control`] if QEMU refuses or is gone,
    /// [`VmmError::Unresponsive`] if it does not answer.
    pub(super) async fn command(&self, command: &str) -> Result<(), VmmError> {
        self.query(command, Value::Null).await.map(drop)
    }

    /// Runs a command, and returns its result.
    pub(super) async fn query(&self, command: &str, arguments: Value) -> Result<Value, VmmError> {
        self.wait(command, self.client.execute(command, arguments))
            .await
    }

    /// Passes a descriptor, which later commands know by `name`.
    pub(super) async fn pass_fd(&self, name: &str, fd: OwnedFd) -> Result<(), VmmError> {
        let arguments = json!({ "fdname": name });
        self.query_with_fd("getfd", arguments, fd).await.map(drop)
    }

    /// Runs a command that is passed a descriptor.
    pub(super) async fn query_with_fd(
        &self,
        command: &str,
        arguments: Value,
        fd: OwnedFd,
    ) -> Result<Value, VmmError> {
        let passed = self.client.execute_with_fd(command, arguments, fd);
        self.wait(command, passed).await
    }

    /// The host refused `what`.
    pub(super) fn host_error(&self, what: &'static str, source: io::Error) -> VmmError {
        VmmError::Host {
            machine: self.machine.clone(),
            what,
            source,
        }
    }

    async fn wait(
        &self,
        command: &str,
        reply: impl Future<Output = Result<Value, QmpError>>,
    ) -> Result<Value, VmmError> {
        match timeout(COMMAND_DEADLINE, reply).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(source)) => Err(VmmError::Control {
                machine: self.machine.clone(),
                source,
            }),
            Err(_) => Err(VmmError::Unresponsive {
                machine: self.machine.clone(),
                command: command.to_owned(),
                deadline: COMMAND_DEADLINE,
            }),
        }
    }

    /// Queues a command, and does not wait for its reply.
    pub(super) fn queue(&self, command: &str, arguments: &Value) {
        self.client.queue(command, arguments);
    }

    /// Runs a command of QEMU's human monitor, which can do what QMP cannot, and returns what it prints.
    pub(super) async fn human(&self, line: String) -> Result<String, VmmError> {
        let arguments = json!({ "command-line": line });
        let printed = self.query("human-monitor-command", arguments).await?;
        Ok(printed.as_str().unwrap_or_default().to_owned())
    }

    /// The error for output of the human monitor that is not understood.
    pub(super) fn unexpected(&self, printed: &str) -> VmmError {
        VmmError::Monitor {
            machine: self.machine.clone(),
            said: printed.trim().to_owned(),
        }
    }

    /// Whether the guest sleeps (S3).
    pub(super) async fn is_suspended(&self) -> Result<bool, VmmError> {
        let status = self.query("query-status", Value::Null).await?;
        Ok(status["status"] == "suspended")
    }
}
