//! Disks of a guest that has no driver for them.

use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use camino::Utf8Path;
use provium_vmm::{
    ConsoleLog, DiskDevice, DiskSlot, Machine, MachineEvent, MachineSpec, SaveForm, SavedMachine,
    Standby, VmmError, tiny,
};
use tokio::time::timeout;

use super::nbd_server::{Export, FLUSH, NbdServer};
use super::{Bench, ROUNDS, SOON, expect};

const WRITABLE: Export = Export {
    size: 3 << 20,
    read_only: false,
};

const READ_ONLY: Export = Export {
    size: 5 << 20,
    read_only: true,
};

fn slot(number: usize) -> DiskSlot {
    DiskSlot::new(number).unwrap()
}

fn disk(number: usize, serial: &str, read_only: bool) -> DiskDevice {
    DiskDevice {
        slot: slot(number),
        serial: serial.to_owned(),
        read_only,
    }
}

impl Bench {
    fn with_disks(&self, disks: &[DiskDevice]) -> MachineSpec {
        MachineSpec {
            disks: disks.to_vec(),
            ..self.spec()
        }
    }

    /// A machine whose guest listens, with these disks.
    async fn launch_with_disks(&self, disks: &[DiskDevice]) -> Machine {
        let machine = Machine::launch(self.with_disks(disks), &self.qemu, ConsoleLog::new()).await;
        let machine = machine.unwrap();
        expect(&machine.console(), 0, &tiny::finished(ROUNDS)).await;
        machine
    }
}

async fn answers(machine: &Machine) {
    let (console, at) = (machine.console(), machine.console().len());
    console.write(b"7").await.unwrap();
    expect(&console, at, "7").await;
}

/// A folder for sockets.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn path(folder: &tempfile::TempDir) -> &Utf8Path {
    Utf8Path::from_path(folder.path()).unwrap()
}

pub(super) async fn are_inserted_plugged_and_saved(bench: &Bench) {
    let sockets = folder();
    let server = |name, export| NbdServer::start(path(&sockets), name, export);
    let launched = [disk(0, "data", false), disk(1, "logs", true)];
    let machine = bench.launch_with_disks(&launched).await;
    let (data, logs, other) = (
        server("data", WRITABLE),
        server("logs", READ_ONLY),
        server("other", WRITABLE),
    );
    machine.insert_disk(slot(0), &data.socket).await.unwrap();
    machine.insert_disk(slot(1), &logs.socket).await.unwrap();
    data.wait_open(1);
    logs.wait_open(1);
    // Another content; the first connection ends.
    machine.insert_disk(slot(0), &other.socket).await.unwrap();
    data.wait_open(0);
    machine.insert_disk(slot(1), &logs.socket).await.unwrap();
    logs.wait_open(1);
    answers(&machine).await;

    let plugged = disk(4, "plugged", false);
    let fifth = server("plugged", WRITABLE);
    machine
        .plug_disk(plugged.clone(), &fifth.socket)
        .await
        .unwrap();
    let all = [launched.to_vec(), vec![plugged.clone()]].concat();
    assert_eq!(machine.disks(), all);
    let occupied = machine.plug_disk(plugged, &fifth.socket).await.unwrap_err();
    let text = "machine `tiny, with a comma`: disk slot 4 holds a disk already";
    assert_eq!(occupied.to_string(), text);
    let empty = machine
        .insert_disk(slot(2), &fifth.socket)
        .await
        .unwrap_err();
    assert!(
        empty.to_string().ends_with("disk slot 2 holds no disk"),
        "{empty}"
    );
    let unknown = disk(5, "no spaces", false);
    let refused = machine.plug_disk(unknown, &fifth.socket).await;
    assert!(
        matches!(refused, Err(VmmError::Specification { .. })),
        "{refused:?}"
    );

    assert_eq!(other.count(FLUSH), 0);
    machine.pause().await.unwrap();
    assert_eq!(other.count(FLUSH), 1, "QEMU flushes what is writable");
    let saves = folder();
    let manifest = machine.save(path(&saves), SaveForm::Whole).await.unwrap();
    assert_eq!(manifest.disks, all);
    machine.quit().await;
    for server in [&logs, &other, &fifth] {
        server.wait_open(0);
    }

    let saved = SavedMachine::open(path(&saves), None).unwrap();
    let restored = bench.restore(&saved).await.unwrap();
    assert_eq!(restored.disks(), all);
    restored.insert_disk(slot(1), &logs.socket).await.unwrap();
    restored.insert_disk(slot(4), &data.socket).await.unwrap();
    restored.resume().await.unwrap();
    answers(&restored).await;
    restored.insert_disk(slot(0), &other.socket).await.unwrap();
    let at = restored.console().len();
    restored.reset().await.unwrap();
    expect(&restored.console(), at, &tiny::finished(ROUNDS)).await;
    restored.quit().await;
    has_the_serials_of_its_process(bench, &saved).await;
}

async fn has_the_serials_of_its_process(bench: &Bench, saved: &SavedMachine) {
    let restore = |disks: Vec<DiskDevice>| {
        let kernel = bench.spec().kernel;
        Standby::restore(saved.clone(), "s".to_owned(), kernel, disks, &bench.qemu)
    };
    let named = vec![disk(4, "c", false), disk(0, "a", false), disk(1, "b", true)];
    let standby = restore(named.clone()).await.unwrap();
    assert_eq!(standby.disks(), named);
    standby.insert_blank_disks(2 << 20).await.unwrap();
    standby.resume().await.unwrap();
    standby.insert_blank_disks(4 << 20).await.unwrap();
    let machine = standby
        .assign("s".to_owned(), ConsoleLog::new())
        .await
        .unwrap();
    let serials: Vec<_> = machine
        .disks()
        .into_iter()
        .map(|disk| disk.serial)
        .collect();
    assert_eq!(serials, ["a", "b", "c"]);
    machine.quit().await;
    for others in [
        &named[..2],
        &[
            disk(4, "c", false),
            disk(0, "a", false),
            disk(1, "b", false),
        ],
        &[disk(4, "c", false), disk(0, "a", false), disk(2, "b", true)],
    ] {
        let refused = restore(others.to_vec()).await;
        assert!(
            matches!(refused, Err(VmmError::Specification { .. })),
            "{refused:?}"
        );
    }
}

pub(super) async fn are_inserted_before_the_first_run(bench: &Bench) {
    let sockets = folder();
    let data = NbdServer::start(path(&sockets), "data", WRITABLE);
    let spec = bench.with_disks(&[disk(0, "data", false)]);
    let machine = Machine::launch_paused(spec, &bench.qemu, ConsoleLog::new()).await;
    let machine = machine.unwrap();
    machine.insert_disk(slot(0), &data.socket).await.unwrap();
    data.wait_open(1);
    assert_eq!(machine.console().len(), 0, "it has not run");
    machine.resume().await.unwrap();
    expect(&machine.console(), 0, &tiny::finished(ROUNDS)).await;
    machine.quit().await;
}

/// The guest ignores the request, as one that boots does; the reset answers it.
pub(super) async fn are_released_by_a_reset(bench: &Bench) {
    let sockets = folder();
    let data = NbdServer::start(path(&sockets), "data", WRITABLE);
    let kept = disk(0, "kept", false);
    let machine = bench
        .launch_with_disks(&[kept.clone(), disk(2, "data", false)])
        .await;
    machine.insert_disk(slot(2), &data.socket).await.unwrap();
    data.wait_open(1);
    let given_up = timeout(Duration::from_millis(50), machine.unplug_disk(slot(2))).await;
    assert!(given_up.is_err(), "the guest has no driver");
    assert_eq!(machine.disks().len(), 2);
    let unplug = async {
        let unplugged = timeout(SOON, machine.unplug_disk(slot(2))).await;
        unplugged.unwrap().unwrap();
    };
    let reset = async {
        machine.reset().await.unwrap();
    };
    tokio::join!(unplug, reset);
    data.wait_open(0);
    assert_eq!(machine.disks(), [kept]);
    let again = disk(2, "again", true);
    machine.plug_disk(again, &data.socket).await.unwrap();
    data.wait_open(1);
    assert_eq!(machine.disks().len(), 2);
    machine.quit().await;
    assert!(machine.unplug_disk(slot(2)).await.is_err(), "it has ended");
}

pub(super) async fn keep_their_content_when_a_server_is_unusable(bench: &Bench) {
    let sockets = folder();
    let at = |name: &str| path(&sockets).join(name);
    let server = |name, export| NbdServer::start(path(&sockets), name, export);
    let machine = bench.launch_with_disks(&[disk(0, "data", false)]).await;
    let data = server("data", WRITABLE);
    machine.insert_disk(slot(0), &data.socket).await.unwrap();
    data.wait_open(1);

    drop(UnixListener::bind(at("dead")).unwrap());
    let garbage = UnixListener::bind(at("garbage")).unwrap();
    std::thread::spawn(move || {
        for stream in garbage.incoming().take(2) {
            // QEMU may have closed it.
            let _ = stream
                .unwrap()
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let small = Export {
        size: 511,
        ..WRITABLE
    };
    let _unusable = [server("small", small), server("read-only", READ_ONLY)];
    for (name, why) in [
        ("none", "No such file"),
        ("dead", "Connection refused"),
        ("garbage", "not an NBD server"),
        ("small", "511 bytes"),
        ("read-only", "read-only"),
    ] {
        let inserted = machine.insert_disk(slot(0), &at(name)).await.unwrap_err();
        let plugged = machine
            .plug_disk(disk(1, "", false), &at(name))
            .await
            .unwrap_err();
        for error in [inserted, plugged] {
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert!(matches!(error, VmmError::Export { .. }), "{error}");
            assert!(cause.contains(why), "{name}: {cause}");
        }
    }
    // QEMU has given the node to the disk when it finds that it cannot grow it.
    let other = server("other", WRITABLE);
    let grown = machine.insert_own_disk(slot(0), &other.socket, 2 * WRITABLE.size);
    let grown = grown.await;
    assert!(matches!(grown, Err(VmmError::Control { .. })), "{grown:?}");
    other.wait_open(0);
    answers(&machine).await;
    data.wait_open(1);
    assert_eq!(machine.disks().len(), 1);
    let inserted = machine.insert_own_disk(slot(0), &other.socket, WRITABLE.size);
    inserted.await.unwrap();
    data.wait_open(0);
    other.wait_open(1);
    machine.quit().await;
}

pub(super) async fn are_known_after_a_cancelled_plug(bench: &Bench) {
    let sockets = folder();
    let data = NbdServer::start(path(&sockets), "data", WRITABLE);
    let machine = bench.launch_with_disks(&[]).await;
    let last = || disk(DiskSlot::COUNT - 1, "last", false);
    let cancelled = timeout(Duration::ZERO, machine.plug_disk(last(), &data.socket)).await;
    assert!(cancelled.is_err());
    // Changes follow each other.
    let occupied = machine.plug_disk(last(), &data.socket).await;
    assert!(occupied.is_err(), "{occupied:?}");
    assert_eq!(machine.disks(), [last()]);
    answers(&machine).await;
    machine.quit().await;
}

pub(super) async fn are_not_changed_in_sleep(bench: &Bench) {
    let sockets = folder();
    let data = NbdServer::start(path(&sockets), "data", WRITABLE);
    let machine = bench.launch_with_disks(&[disk(0, "data", false)]).await;
    let mut events = machine.events();
    machine.console().write(b"s").await.unwrap();
    let event = timeout(SOON, events.recv()).await.unwrap();
    assert_eq!(event, Ok(MachineEvent::Suspended));
    for refused in [
        machine.plug_disk(disk(1, "", false), &data.socket).await,
        machine.unplug_disk(slot(0)).await,
    ] {
        let error = refused.unwrap_err().to_string();
        assert!(error.ends_with("sleeps: wake it first"), "{error}");
    }
    assert_eq!(machine.disks().len(), 1);
    machine.quit().await;
}
