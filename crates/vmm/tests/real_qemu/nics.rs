//! NICs of a guest that has no driver for them.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use camino::Utf8Path;
use provium_vmm::{
    ConsoleLog, Machine, MachineEvent, MachineSpec, NicSlot, SaveForm, SavedMachine, VmmError, tiny,
};
use tokio::time::timeout;

use super::{Bench, ROUNDS, SOON, expect};

fn slots(numbers: &[usize]) -> Vec<NicSlot> {
    let slots = numbers.iter().map(|number| NicSlot::new(*number).unwrap());
    slots.collect()
}

impl Bench {
    /// A machine whose guest listens, with these NICs.
    async fn launch_with(&self, nics: &[usize]) -> Machine {
        let spec = MachineSpec {
            nics: slots(nics),
            ..self.spec()
        };
        let machine = Machine::launch(spec, &self.qemu, ConsoleLog::new()).await;
        let machine = machine.unwrap();
        expect(&machine.console(), 0, &tiny::finished(ROUNDS)).await;
        machine
    }
}

/// Sends frames that no guest takes, until QEMU takes no more either: it reads a few, and the rest fills the
/// socket.
async fn flood(socket: &UnixStream) {
    let (unread, _other) = UnixStream::pair().unwrap();
    let capacity = fill(&unread);
    let mut sent = fill(socket);
    // A socket is not reported as writable before three quarters of it are free.
    let read = async {
        while sent <= capacity {
            tokio::task::yield_now().await;
            sent += fill(socket);
        }
    };
    timeout(SOON, read)
        .await
        .unwrap_or_else(|_| panic!("QEMU does not read: {sent} bytes were taken"));
    assert!(sent < capacity + (4 << 20), "QEMU keeps what it reads");
}

/// Sends frames until the socket is full; the number of bytes.
fn fill(mut socket: &UnixStream) -> usize {
    socket.set_nonblocking(true).unwrap();
    let frames = [&60_u32.to_be_bytes()[..], &[0xff; 60]].concat().repeat(64);
    let (mut sent, limit) = (0, 16 << 20);
    while sent < limit
        && let Ok(count) = socket.write(&frames)
    {
        sent += count;
    }
    sent
}

pub(super) async fn are_plugged_and_saved(bench: &Bench) {
    let machine = bench.launch_with(&[1]).await;
    let (first, second) = (slots(&[1])[0], slots(&[4])[0]);
    let socket = machine.take_nic_socket(first).unwrap();
    assert!(machine.take_nic_socket(first).is_none(), "given once");
    flood(&socket).await;

    let mut plugged = machine.plug_nic(second).await.unwrap();
    flood(&plugged).await;
    assert_eq!(machine.nics(), slots(&[1, 4]));
    let occupied = machine.plug_nic(second).await.unwrap_err();
    let text = "machine `tiny, with a comma`: NIC slot 4 holds a NIC already";
    assert_eq!(occupied.to_string(), text);
    let empty = machine.set_nic_link(slots(&[0])[0], false).await;
    assert!(matches!(empty, Err(VmmError::Slot { .. })), "{empty:?}");
    machine.set_nic_link(second, false).await.unwrap();

    // A reset, with frames that wait.
    let (console, at) = (machine.console(), machine.console().len());
    machine.reset().await.unwrap();
    expect(&console, at, &tiny::finished(ROUNDS)).await;
    machine.set_nic_link(second, true).await.unwrap();

    machine.pause().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let folder = Utf8Path::from_path(folder.path()).unwrap();
    let manifest = machine.save(folder, SaveForm::Whole).await.unwrap();
    assert_eq!(manifest.nics, slots(&[1, 4]));
    machine.quit().await;
    // QEMU's end is closed.
    plugged.set_nonblocking(false).unwrap();
    assert_eq!(plugged.read(&mut [0; 64]).unwrap_or(0), 0);

    let saved = SavedMachine::open(folder, None).unwrap();
    let restored = bench.restore(&saved).await.unwrap();
    assert_eq!(restored.nics(), slots(&[1, 4]));
    assert!(restored.take_nic_socket(second).is_some());
    restored.resume().await.unwrap();
    let (console, at) = (restored.console(), restored.console().len());
    console.write(b"7").await.unwrap();
    expect(&console, at, "7").await;
    // What was plugged is there for the firmware.
    restored.reset().await.unwrap();
    expect(&console, at, &tiny::finished(ROUNDS)).await;
    restored.quit().await;
}

/// The guest ignores the request, as one that boots does; the reset answers it.
pub(super) async fn are_released_by_a_reset(bench: &Bench) {
    let machine = bench.launch_with(&[0, 2]).await;
    let slot = slots(&[2])[0];
    let given_up = timeout(Duration::from_millis(50), machine.unplug_nic(slot)).await;
    assert!(given_up.is_err(), "the guest has no driver");
    assert_eq!(machine.nics(), slots(&[0, 2]));
    let unplug = async {
        let unplugged = timeout(SOON, machine.unplug_nic(slot)).await;
        unplugged.unwrap().unwrap();
    };
    let reset = async {
        machine.reset().await.unwrap();
    };
    tokio::join!(unplug, reset);
    assert_eq!(machine.nics(), slots(&[0]));
    let socket = machine.plug_nic(slot).await.unwrap();
    drop(socket);
    assert_eq!(machine.nics(), slots(&[0, 2]));
    machine.quit().await;
    assert!(machine.unplug_nic(slot).await.is_err(), "it has ended");
}

pub(super) async fn are_known_after_a_cancelled_plug(bench: &Bench) {
    let machine = bench.launch_with(&[]).await;
    let slot = slots(&[7])[0];
    let cancelled = timeout(Duration::ZERO, machine.plug_nic(slot)).await;
    assert!(cancelled.is_err());
    // Commands follow each other.
    let occupied = machine.plug_nic(slot).await;
    assert!(occupied.is_err(), "{occupied:?}");
    assert!(machine.take_nic_socket(slot).is_some());
    let at = machine.console().len();
    machine.console().write(b"8").await.unwrap();
    expect(&machine.console(), at, "8").await;
    machine.quit().await;
}

pub(super) async fn are_not_changed_in_sleep(bench: &Bench) {
    let machine = bench.launch_with(&[0]).await;
    let mut events = machine.events();
    machine.console().write(b"s").await.unwrap();
    let event = timeout(SOON, events.recv()).await.unwrap();
    assert_eq!(event, Ok(MachineEvent::Suspended));
    for refused in [
        machine.plug_nic(slots(&[1])[0]).await.map(drop),
        machine.unplug_nic(slots(&[0])[0]).await,
    ] {
        let error = refused.unwrap_err().to_string();
        assert!(error.ends_with("sleeps: wake it first"), "{error}");
    }
    assert_eq!(machine.nics(), slots(&[0]));
    machine.quit().await;
}
