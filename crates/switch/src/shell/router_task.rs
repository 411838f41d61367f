//! A running router: a task that moves frames between ports of several switches and a [`Router`].

use super::handle::{Switch, SwitchStopped};
use super::owned_port::{OpenError, OwnedPort, PortSource};
use crate::router::{ForwardedFrame, InterfaceId, InterfaceSettings, Router, UplinkHops};
use crate::{PortId, Time};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Frames of one port that are handled before the frames that follow from them are sent.
const BATCH: usize = 64;

/// A router that runs. Dropping it removes its ports.
///
/// It is not a part of what [`Switch::freeze`] saves, except for its ports: a restored switch has them, and
/// [`RouterTask::add`] takes them as [`PortSource::Existing`]. The router asks again for the stations that it knew.
#[derive(Debug)]
pub struct RouterTask {
    commands: mpsc::UnboundedSender<Command>,
    task: JoinHandle<()>,
}

type Command = Box<dyn FnOnce(&mut State) + Send>;

struct State {
    router: Router,
    ports: BTreeMap<InterfaceId, OwnedPort>,
    /// The interface whose port is looked at first, so that a busy port does not delay others.
    next: InterfaceId,
    started: Instant,
    out: Vec<ForwardedFrame>,
}

impl RouterTask {
    /// Starts a router without interfaces, as a task of the runtime of the caller.
    ///
    /// # Panics
    /// Outside of a runtime of tokio.
    #[must_use]
    pub fn start() -> Self {
        let (commands, received) = mpsc::unbounded_channel();
        let state = State {
            router: Router::default(),
            ports: BTreeMap::new(),
            next: InterfaceId::FIRST,
            started: Instant::now(),
            out: Vec::new(),
        };
        Self {
            commands,
            task: tokio::spawn(state.run(received)),
        }
    }

    /// Adds an interface with a port of a switch. It has no services and is not joined with other interfaces.
    ///
    /// # Errors
    /// When the switch or the router has stopped, or the port does not exist.
    pub async fn add(
        &self,
        switch: &Switch,
        port: PortSource,
        settings: InterfaceSettings,
    ) -> Result<InterfaceId, OpenError> {
        let port = OwnedPort::open(switch, port).await?;
        self.add_port(port, |router| router.add_interface(settings))
            .await
    }

    /// Adds an interface to an uplink ([`Router::add_uplink`]). It is not joined with other interfaces.
    ///
    /// # Errors
    /// As [`RouterTask::add`].
    pub async fn add_uplink(
        &self,
        switch: &Switch,
        port: PortSource,
        settings: InterfaceSettings,
        hops: UplinkHops,
    ) -> Result<InterfaceId, OpenError> {
        let port = OwnedPort::open(switch, port).await?;
        self.add_port(port, move |router| router.add_uplink(settings, hops))
            .await
    }

    async fn add_port(
        &self,
        port: OwnedPort,
        add: impl FnOnce(&mut Router) -> InterfaceId + Send + 'static,
    ) -> Result<InterfaceId, OpenError> {
        let added = self.call(|state| {
            let id = add(&mut state.router);
            state.ports.insert(id, port);
            id
        });
        Ok(added.await?)
    }

    /// The port of an interface; `None` if it does not exist.
    ///
    /// # Errors
    /// When the router has stopped.
    pub async fn port(&self, id: InterfaceId) -> Result<Option<PortId>, SwitchStopped> {
        self.call(move |state| state.ports.get(&id).map(OwnedPort::id))
            .await
    }

    /// Removes an interface with its port.
    ///
    /// # Errors
    /// When the router has stopped.
    pub async fn remove(&self, id: InterfaceId) -> Result<(), SwitchStopped> {
        self.call(move |state| state.remove(id)).await
    }

    /// Runs `change` on the router: which interfaces are joined, and their services.
    ///
    /// # Errors
    /// When the router has stopped.
    pub async fn with<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Router) -> T + Send + 'static,
    ) -> Result<T, SwitchStopped> {
        self.call(|state| change(&mut state.router)).await
    }

    /// As [`RouterTask::with`], without waiting for the result.
    ///
    /// # Errors
    /// When the router has stopped.
    pub fn change_later(
        &self,
        change: impl FnOnce(&mut Router) + Send + 'static,
    ) -> Result<(), SwitchStopped> {
        let command: Command = Box::new(|state| change(&mut state.router));
        self.commands.send(command).map_err(|_| SwitchStopped)
    }

    /// Ends the router, and waits until its ports have been removed.
    pub async fn close(mut self) {
        self.task.abort();
        // Its ports are removed when it is dropped, which is before the task counts as ended.
        let _ = (&mut self.task).await;
    }

    async fn call<T: Send + 'static>(
        &self,
        run: impl FnOnce(&mut State) -> T + Send + 'static,
    ) -> Result<T, SwitchStopped> {
        let (reply, result) = oneshot::channel();
        let command: Command = Box::new(move |state| drop(reply.send(run(state))));
        self.commands.send(command).map_err(|_| SwitchStopped)?;
        result.await.map_err(|_| SwitchStopped)
    }
}

impl Drop for RouterTask {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        loop {
            let due = self.router.next_due();
            let due = due.map(|due| self.started + Duration::from_nanos(due.as_nanos()));
            let until_due = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // In this order, so that a change applies to the frames that were sent after it.
                biased;
                command = commands.recv() => match command {
                    Some(command) => command(&mut self),
                    None => return,
                },
                () = until_due => {
                    let now = self.now();
                    self.router.advance(now, &mut self.out);
                }
                (id, frame) = next_frame(&mut self.ports, self.next) => match frame {
                    Some(frame) => self.receive(id, &frame),
                    None => self.remove(id),
                },
            }
            self.send();
        }
    }

    fn receive(&mut self, id: InterfaceId, first: &Bytes) {
        let now = self.now();
        self.router.receive(now, id, first, &mut self.out);
        let Some(port) = self.ports.get_mut(&id) else {
            return;
        };
        let more = std::iter::from_fn(|| port.try_recv()).take(BATCH - 1);
        for (_, frame) in more {
            self.router.receive(now, id, &frame, &mut self.out);
        }
        self.next = id.following();
    }

    /// Sends what the router has to send, as one batch for each port.
    fn send(&mut self) {
        let mut batches: BTreeMap<InterfaceId, Vec<Bytes>> = BTreeMap::new();
        for ForwardedFrame { interface, frame } in self.out.drain(..) {
            batches.entry(interface).or_default().push(frame);
        }
        for (id, frames) in batches {
            if let Some(port) = self.ports.get(&id) {
                // A switch that has stopped closes its ports, which removes the interface.
                let _ = port.send(frames);
            }
        }
    }

    fn remove(&mut self, id: InterfaceId) {
        self.router.remove_interface(id);
        self.ports.remove(&id);
    }

    fn now(&self) -> Time {
        Time::ZERO + self.started.elapsed()
    }
}

/// Waits for a frame of any port; the first port that is looked at is that of `first`.
async fn next_frame(
    ports: &mut BTreeMap<InterfaceId, OwnedPort>,
    first: InterfaceId,
) -> (InterfaceId, Option<Bytes>) {
    poll_fn(|context| {
        for is_second_part in [false, true] {
            for (id, port) in ports.iter_mut() {
                if (*id < first) == is_second_part
                    && let Poll::Ready(frame) = port.poll_recv(context)
                {
                    return Poll::Ready((*id, frame.map(|(_, frame)| frame)));
                }
            }
        }
        Poll::Pending
    })
    .await
}
