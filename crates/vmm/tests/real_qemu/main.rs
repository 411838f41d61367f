//! The life of a machine, on the real QEMU with the tiny guest, under TCG.
//!
//! Skipped, and said so, only where no QEMU is installed.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stderr, reason = "a test that is skipped says so")]

mod disks;
mod nbd_server;
mod nics;

use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use provium_process::{Exit, ProcessError};
use provium_vmm::{
    Accel, AccelChoice, ConsoleLog, Death, DeathKind, InitrdPart, Machine, MachineEvent,
    MachineSpec, Qemu, SaveForm, SavedMachine, Standby, VmmError, decide_accel, tiny,
};
use tokio::time::timeout;

/// Nothing here takes a second, on a host that is not crowded.
const SOON: Duration = Duration::from_secs(60);

/// Work of the guest before it listens: little.
const ROUNDS: u32 = 10;

struct Bench {
    qemu: Qemu,
    kernel: tempfile::NamedTempFile,
}

impl Bench {
    async fn new() -> Option<Self> {
        let qemu = match Qemu::find(None).await {
            Ok(qemu) => qemu,
            Err(VmmError::Process(ProcessError::NotFound { program })) => {
                eprintln!("skipped: `{program}` is not installed");
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        let mut kernel = tempfile::NamedTempFile::new().unwrap();
        kernel.write_all(&tiny::elf(ROUNDS)).unwrap();
        Some(Self { qemu, kernel })
    }

    fn spec(&self) -> MachineSpec {
        MachineSpec {
            name: "tiny, with a comma".to_owned(),
            kernel: Utf8PathBuf::from_path_buf(self.kernel.path().to_owned()).unwrap(),
            initrd: vec![InitrdPart::Bytes(vec![0; 1000].into())],
            cmdline: "console=ttyS0".to_owned(),
            memory: 32 << 20,
            cpus: 1,
            accel: Accel::Tcg,
            rng_seed: Some(1),
            initial_time_ns: Some(1_700_000_000_500_000_000),
            nics: Vec::new(),
            disks: Vec::new(),
        }
    }

    /// A machine whose guest listens.
    async fn launch(&self) -> Machine {
        let machine = Machine::launch(self.spec(), &self.qemu, ConsoleLog::new())
            .await
            .unwrap();
        expect(&machine.console(), 0, &tiny::finished(ROUNDS)).await;
        machine
    }
}

/// Waits for the text at or after `position`; the position behind it.
async fn expect(console: &ConsoleLog, position: u64, text: &str) -> u64 {
    let found = async {
        loop {
            let bytes = console.read_from(position).unwrap();
            let log = String::from_utf8_lossy(&bytes).into_owned();
            if let Some(at) = log.find(text) {
                return position + (at + text.len()) as u64;
            }
            assert!(
                console.changed_past(position + bytes.len() as u64).await,
                "ended: {log}"
            );
        }
    };
    timeout(SOON, found)
        .await
        .unwrap_or_else(|_| panic!("no `{text}`: {:?}", console.read_all()))
}

async fn death(machine: &Machine) -> Death {
    let mut ended = machine.ended();
    let death = timeout(SOON, ended.wait_for(Option::is_some))
        .await
        .unwrap()
        .unwrap();
    death.clone().unwrap()
}

fn lives(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

fn open_files() -> BTreeSet<String> {
    std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .map(|target| target.to_string_lossy().into_owned())
        // The runtime's own come and go with its threads.
        .filter(|target| {
            target.starts_with("socket:") || target.contains("memfd") || target.contains("pidfd")
        })
        .collect()
}

/// How often process `pid` has the file open for writing.
fn open_for_writing(pid: u32, path: &Utf8Path) -> usize {
    let proc = std::path::PathBuf::from(format!("/proc/{pid}"));
    std::fs::read_dir(proc.join("fd"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| {
            std::fs::read_link(entry.path()).is_ok_and(|target| target == path.as_std_path())
        })
        .filter(|entry| {
            let info =
                std::fs::read_to_string(proc.join("fdinfo").join(entry.file_name())).unwrap();
            let flags = info
                .lines()
                .find_map(|line| line.strip_prefix("flags:"))
                .unwrap();
            u32::from_str_radix(flags.trim(), 8).unwrap() & 0o3 != 0
        })
        .count()
}

/// One test, because open files are the process's: it counts them at the end.
#[tokio::test]
async fn the_life_of_a_machine() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    // One machine first, so that what is made once is there when files are counted.
    bench.launch().await.quit().await;
    let files = open_files();
    tokio::join!(
        pauses_and_quits(&bench),
        powers_off(&bench),
        panics(&bench),
        reboots(&bench),
        is_killed(&bench),
        is_dropped(&bench),
        is_saved_and_restored(&bench),
        is_not_restored_from_damage(&bench),
        fails_to_start(&bench),
        nics::are_plugged_and_saved(&bench),
        nics::are_released_by_a_reset(&bench),
        nics::are_known_after_a_cancelled_plug(&bench),
        nics::are_not_changed_in_sleep(&bench),
        disks::are_inserted_plugged_and_saved(&bench),
        disks::are_inserted_before_the_first_run(&bench),
        disks::are_released_by_a_reset(&bench),
        disks::keep_their_content_when_a_server_is_unusable(&bench),
        disks::are_known_after_a_cancelled_plug(&bench),
        disks::are_not_changed_in_sleep(&bench),
    );
    // Tasks of the machines let go of their sockets when they are next run.
    let freed = async {
        while !open_files().is_subset(&files) {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, freed)
        .await
        .unwrap_or_else(|_| panic!("{files:?} became {:?}", open_files()));
}

async fn pauses_and_quits(bench: &Bench) {
    let machine = bench.launch().await;
    let console = machine.console();
    let mut events = machine.events();
    let log = String::from_utf8(console.read_all().unwrap()).unwrap();
    assert_eq!(log, format!("{}{}", tiny::STARTED, tiny::finished(ROUNDS)));
    assert!(machine.take_agent_streams().is_some());
    assert!(machine.take_agent_streams().is_none());
    assert!(machine.usage().unwrap().resident_bytes > 1 << 20);

    machine.pause().await.unwrap();
    assert_eq!(events.recv().await.unwrap(), MachineEvent::Paused);
    let before = console.len();
    console.write(b"abc").await.unwrap();
    let silent = timeout(Duration::from_millis(50), console.changed_past(before))
        .await
        .is_err();
    assert!(silent, "a paused guest echoes nothing");
    machine.resume().await.unwrap();
    assert_eq!(events.recv().await.unwrap(), MachineEvent::Resumed);
    expect(&console, before, "abc").await;
    let refused = machine.wakeup().await.unwrap_err();
    let words = std::error::Error::source(&refused).unwrap().to_string();
    assert!(words.contains("system_wakeup"), "{words}");

    let pid = machine.pid();
    machine.quit().await;
    assert!(!lives(pid), "reaped when `quit` returns");
    machine.quit().await;
    assert_eq!(death(&machine).await.to_string(), "the machine was quit");
    assert!(
        console.read_all().unwrap().ends_with(b"abc"),
        "readable after the end"
    );
    assert!(machine.pause().await.is_err());
    assert!(machine.usage().is_err());
}

impl Bench {
    async fn restore(&self, saved: &SavedMachine) -> Result<Machine, VmmError> {
        let standby = self.standby(saved).await?;
        standby.assign("copy".to_owned(), ConsoleLog::new()).await
    }

    async fn standby(&self, saved: &SavedMachine) -> Result<Standby, VmmError> {
        let (kernel, disks) = (self.spec().kernel, saved.manifest.disks.clone());
        let name = "standby".to_owned();
        Standby::restore(saved.clone(), name, kernel, disks, &self.qemu).await
    }
}

/// A machine that was saved whole; its folder is kept by the caller.
async fn saved(bench: &Bench, folder: &Utf8Path) -> SavedMachine {
    let machine = bench.launch().await;
    let console = machine.console();
    console.write(b"123").await.unwrap();
    expect(&console, 0, "123").await;
    machine.pause().await.unwrap();
    let manifest = machine.save(folder, SaveForm::OnBase).await.unwrap();
    assert!(manifest.whole, "a booted machine has no base");
    assert!(
        manifest.ram_bytes > 0 && manifest.ram_bytes < 8 << 20,
        "{manifest:?}"
    );
    machine.resume().await.unwrap();
    console.write(b"456").await.unwrap();
    expect(&console, 0, "123456").await;
    machine.quit().await;
    SavedMachine::open(folder, None).unwrap()
}

async fn is_saved_and_restored(bench: &Bench) {
    let folder = tempfile::tempdir().unwrap();
    let folder = Utf8Path::from_path(folder.path()).unwrap();
    let whole = saved(bench, &folder.join("whole")).await;
    let (first, second) = tokio::join!(bench.restore(&whole), bench.restore(&whole));
    let (first, second) = (first.unwrap(), second.unwrap());
    if (bench.qemu.version.major, bench.qemu.version.minor) >= (8, 2) {
        assert_eq!(open_for_writing(first.pid(), &folder.join("whole/ram")), 0);
    }
    for (machine, word) in [(&first, "77"), (&second, "88")] {
        let console = machine.console();
        let log = String::from_utf8(console.read_all().unwrap()).unwrap();
        assert!(log.ends_with("123"), "the log continues: {log}");
        machine.resume().await.unwrap();
        console.write(word.as_bytes()).await.unwrap();
        expect(&console, 0, &format!("123{word}")).await;
    }

    let mut standby = bench.standby(&whole).await.unwrap();
    standby.resume().await.unwrap();
    standby.pause().await.unwrap();
    let console = ConsoleLog::new();
    let warm = standby.assign("warm".to_owned(), console.clone()).await;
    let warm = warm.unwrap();
    // Queued behind the pause, which is given up without waiting for it.
    let mut events = warm.events();
    warm.resume().await.unwrap();
    assert_eq!(
        timeout(SOON, events.recv()).await.unwrap(),
        Ok(MachineEvent::Resumed)
    );
    drop(timeout(Duration::ZERO, warm.pause()).await);
    warm.queue_resume();
    for event in [MachineEvent::Paused, MachineEvent::Resumed] {
        assert_eq!(timeout(SOON, events.recv()).await.unwrap(), Ok(event));
    }
    console.write(b"66").await.unwrap();
    expect(&console, 0, "12366").await;
    warm.quit().await;

    // What a copy has written is saved on the base, or whole.
    first.pause().await.unwrap();
    let on_base = folder.join("on-base");
    let manifest = first.save(&on_base, SaveForm::OnBase).await.unwrap();
    assert!(!manifest.whole && manifest.ram_bytes < whole.manifest.ram_bytes + (1 << 20));
    let again = folder.join("again");
    first.save(&again, SaveForm::Whole).await.unwrap();
    assert!(
        SavedMachine::open(&on_base, None).is_err(),
        "it needs its base"
    );
    let on_base = SavedMachine::open(&on_base, Some(whole.base())).unwrap();
    let again = SavedMachine::open(&again, None).unwrap();
    let (third, fourth) = tokio::join!(bench.restore(&on_base), bench.restore(&again));
    for machine in [third.unwrap(), fourth.unwrap()] {
        let console = machine.console();
        machine.resume().await.unwrap();
        console.write(b"99").await.unwrap();
        expect(&console, 0, "1237799").await;
        // The kernel is there for a reset, too.
        let at = console.len();
        machine.reset().await.unwrap();
        expect(&console, at, &tiny::finished(ROUNDS)).await;
        machine.quit().await;
    }
    first.quit().await;
    second.quit().await;
}

async fn is_not_restored_from_damage(bench: &Bench) {
    let folder = tempfile::tempdir().unwrap();
    let folder = Utf8Path::from_path(folder.path()).unwrap();
    let whole = saved(bench, folder).await;
    let mut foreign = whole.clone();
    foreign.manifest.qemu = "0.1.0".to_owned();
    let error = bench.restore(&foreign).await.unwrap_err();
    assert!(matches!(error, VmmError::Restore { .. }), "{error}");

    let devices = std::fs::read(folder.join("devices")).unwrap();
    std::fs::write(folder.join("devices"), &devices[..devices.len() / 2]).unwrap();
    let error = bench.restore(&whole).await.unwrap_err();
    assert!(matches!(error, VmmError::DiedAtStart { .. }), "{error}");
    std::fs::remove_file(folder.join("devices")).unwrap();
    let error = bench.restore(&whole).await.unwrap_err();
    assert!(matches!(error, VmmError::Unreadable { .. }), "{error}");
    std::fs::write(folder.join("ram"), "short").unwrap();
    assert!(SavedMachine::open(folder, None).is_err());
}

async fn powers_off(bench: &Bench) {
    let machine = bench.launch().await;
    machine.console().write(b"o").await.unwrap();
    assert_eq!(death(&machine).await.kind, DeathKind::PoweredOff);
    machine.quit().await;
    assert!(!lives(machine.pid()));
}

async fn panics(bench: &Bench) {
    let machine = bench.launch().await;
    machine.console().write(b"p").await.unwrap();
    assert_eq!(death(&machine).await.kind, DeathKind::Panicked);
    assert!(machine.console().read_all().unwrap().ends_with(b"p"));
    assert!(lives(machine.pid()), "its memory can still be looked at");
    machine.quit().await;
    assert!(!lives(machine.pid()));
    assert_eq!(
        death(&machine).await.kind,
        DeathKind::Panicked,
        "the first end stays"
    );
}

async fn reboots(bench: &Bench) {
    let machine = bench.launch().await;
    let (console, mut events) = (machine.console(), machine.events());
    let mark = console.len();
    console.write(b"r").await.unwrap();
    assert_eq!(events.recv().await.unwrap(), MachineEvent::Rebooted);
    let mark = expect(&console, mark, &tiny::finished(ROUNDS)).await;
    machine.reset().await.unwrap();
    assert_eq!(events.recv().await.unwrap(), MachineEvent::Reset);
    expect(&console, mark, &tiny::finished(ROUNDS)).await;
    assert!(machine.ended().borrow().is_none());
    machine.quit().await;
}

async fn is_killed(bench: &Bench) {
    let machine = bench.launch().await;
    let pid = rustix::process::Pid::from_raw(i32::try_from(machine.pid()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let death = death(&machine).await;
    assert_eq!(death.kind, DeathKind::QemuExited(Exit::Signalled(9)));
    assert_eq!(death.to_string(), "QEMU was killed by SIGKILL");
    machine.quit().await;
}

async fn is_dropped(bench: &Bench) {
    let machine = bench.launch().await;
    let pid = machine.pid();
    drop(machine);
    assert!(!lives(pid));
}

async fn fails_to_start(bench: &Bench) {
    let mut garbage = tempfile::NamedTempFile::new().unwrap();
    garbage.write_all(b"no kernel").unwrap();
    let kernel = Utf8PathBuf::from_path_buf(garbage.path().to_owned()).unwrap();
    let spec = MachineSpec {
        kernel,
        ..bench.spec()
    };
    let error = Machine::launch(spec, &bench.qemu, ConsoleLog::new())
        .await
        .unwrap_err();
    let VmmError::DiedAtStart { stderr, .. } = &error else {
        panic!("{error}")
    };
    assert!(stderr.contains("kernel"), "{stderr}");

    let spec = MachineSpec {
        kernel: "/nonexistent/vmlinux".into(),
        ..bench.spec()
    };
    let error = Machine::launch(spec, &bench.qemu, ConsoleLog::new())
        .await
        .unwrap_err();
    let text = "cannot start machine `tiny, with a comma` from `/nonexistent/vmlinux`";
    assert_eq!(error.to_string(), text);
}

/// Where KVM proves to work, a machine runs under it; elsewhere, a request for it is refused with the reason.
#[tokio::test]
async fn kvm_runs_a_machine_where_it_works() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let cache = tempfile::tempdir().unwrap();
    let cache = Utf8Path::from_path(cache.path()).unwrap();
    let decide = |choice| decide_accel(&bench.qemu, choice, cache);
    let decided = decide(AccelChoice::Auto).await.unwrap();
    let demanded = decide(AccelChoice::Kvm).await;
    assert!(decided.slowdown >= 1.0);
    if decided.accel == Accel::Tcg {
        let why = decided.why;
        let refused = demanded.unwrap_err();
        let VmmError::KvmUnusable { why: reported } = &refused else {
            panic!("{refused}")
        };
        // The trials may have been repeated since, on a busy host: the times that the reason names differ then.
        let without_times = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "");
        assert_eq!(without_times(reported), without_times(&why));
        let asked_for = decide(AccelChoice::Tcg).await.unwrap();
        assert!(
            asked_for.slowdown <= decided.slowdown,
            "the best trial counts"
        );
        eprintln!("skipped: KVM does not work here: {why}");
        return;
    }
    assert_eq!(demanded.unwrap(), decided);
    let spec = MachineSpec {
        accel: Accel::Kvm,
        ..bench.spec()
    };
    let machine = Machine::launch(spec, &bench.qemu, ConsoleLog::new())
        .await
        .unwrap();
    expect(&machine.console(), 0, &tiny::finished(ROUNDS)).await;
    machine.quit().await;
}
