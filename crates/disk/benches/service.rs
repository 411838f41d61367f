//! What a disk carries to `qemu-img bench` through the service, beside `qemu-nbd` and `nbdkit file` on the same image
//! in the same run, and beside the service with a plain file, which shows what the layers of a disk cost.
//!
//! The image is in memory, so that the figures are not those of the host's drive. Prints rows for `make bench`: name,
//! value, unit and remark, with tabs between them. Without one of the programs, its comparison is left out.
#![expect(clippy::print_stdout, clippy::expect_used, reason = "a benchmark")]

use camino::{Utf8Path, Utf8PathBuf};
use provium_disk::{
    Admission, Base, Command as DiskCommand, CommandKind, Disk, DiskService, DiskSpec, Export,
    FlushPoint,
};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::Arc;

const SIZE: u64 = 256 << 20;

/// The best of so many runs counts; the servers take turns.
const ROUNDS: usize = 3;

/// A kind of load.
struct Load {
    name: &'static str,
    block: u64,
    /// From the beginning of a request to that of the next. One that is not a divisor of the size jumps about.
    step: u64,
    depth: u32,
    count: u32,
    writes: bool,
}

const SEQUENTIAL: u64 = 0;
/// About 37 MiB, in blocks of 4 KiB.
const RANDOM: u64 = 9473 * 4096;

const LOADS: [Load; 10] = [
    load("read 1 MiB, depth 1", 1 << 20, SEQUENTIAL, 1, false),
    load("write 1 MiB, depth 1", 1 << 20, SEQUENTIAL, 1, true),
    load("read 1 MiB, depth 16", 1 << 20, SEQUENTIAL, 16, false),
    load("write 1 MiB, depth 16", 1 << 20, SEQUENTIAL, 16, true),
    load("read 64 KiB, depth 16", 64 << 10, SEQUENTIAL, 16, false),
    load("write 64 KiB, depth 16", 64 << 10, SEQUENTIAL, 16, true),
    load("random read 4 KiB, depth 1", 4096, RANDOM, 1, false),
    load("random write 4 KiB, depth 1", 4096, RANDOM, 1, true),
    load("random read 4 KiB, depth 16", 4096, RANDOM, 16, false),
    load("random write 4 KiB, depth 16", 4096, RANDOM, 16, true),
];

const fn load(name: &'static str, block: u64, step: u64, depth: u32, writes: bool) -> Load {
    let count = if block == 4096 {
        20_000
    } else {
        ((512 << 20) / block) as u32
    };
    Load {
        name,
        block,
        step: if step == SEQUENTIAL { block } else { step },
        depth,
        count,
        writes,
    }
}

/// A file as a disk, without any layer.
struct Plain(File);

impl Export for Plain {
    fn size(&self) -> u64 {
        SIZE
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn admit(&self, command: DiskCommand) -> Admission {
        Admission::normal(command)
    }

    fn read(&self, admission: &Admission, buffer: &mut [u8]) -> Result<(), Errno> {
        let result = self.0.read_exact_at(buffer, admission.command.offset);
        result.map_err(errno)
    }

    fn write(&self, admission: &Admission, data: &[u8]) -> Result<(), Errno> {
        let result = self.0.write_all_at(data, admission.command.offset);
        result.map_err(errno)
    }

    fn carry_out(&self, admission: &Admission) -> Result<(), Errno> {
        match admission.command.kind {
            CommandKind::Flush => self.0.sync_data().map_err(errno),
            _ => Err(Errno::NOTSUP),
        }
    }

    fn prepare_flush(&self, _: DiskCommand) -> Result<FlushPoint, Errno> {
        self.0.sync_data().map_err(errno)?;
        Ok(FlushPoint::default())
    }

    /// All of a plain file is durable when a flush of it is prepared.
    fn complete_flush(&self, _: DiskCommand, _: Result<FlushPoint, Errno>) {}
}

fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

/// Who serves the image.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Server {
    /// The service with a disk: an overlay on the image.
    Disk,
    /// The service with a plain file.
    Plain,
    QemuNbd,
    Nbdkit,
    /// QEMU's own driver for files, without a server.
    RawFile,
}

const SERVERS: [(Server, &str); 5] = [
    (Server::Disk, "disk"),
    (Server::Plain, "plain file"),
    (Server::QemuNbd, "qemu-nbd"),
    (Server::Nbdkit, "nbdkit file"),
    (Server::RawFile, "raw file"),
];

/// The arguments of `qemu-img` for a load.
fn arguments(load: &Load) -> String {
    let Load {
        block,
        step,
        depth,
        count,
        ..
    } = load;
    let writes = if load.writes { "-w" } else { "" };
    format!("bench -f raw {writes} -s {block} -S {step} -d {depth} -c {count}")
}

/// MiB/s of a load; `None` if a program is not installed.
fn measure(server: Server, load: &Load, folder: &Utf8Path, image: &Utf8Path) -> Option<f64> {
    let socket = folder.join("disk.sock");
    let uri = format!("nbd+unix:///?socket={socket}");
    let printed = match server {
        Server::Disk => {
            let disk = Disk::open(DiskSpec {
                size: SIZE,
                base: Base::Image(image.to_owned()),
                read_only: false,
                scratch: folder.to_owned(),
                seed: 1,
            });
            let disk = Arc::new(disk.expect("the image"));
            let _service = DiskService::start(disk, "disk", &socket).expect("a service");
            qemu_img(load, &uri)?
        }
        Server::Plain => {
            let file = File::options().read(true).write(true).open(image);
            let disk = Arc::new(Plain(file.expect("the image")));
            let _service = DiskService::start(disk, "disk", &socket).expect("a service");
            qemu_img(load, &uri)?
        }
        Server::QemuNbd => {
            // It ends with its first client.
            let arguments = ["--fork", "--format=raw", "--cache=writeback", "-k"];
            let started = Command::new("qemu-nbd")
                .args(arguments)
                .args([&socket, image])
                .status();
            is_installed(started)?;
            qemu_img(load, &uri)?
        }
        Server::Nbdkit => {
            let client = format!("qemu-img {} \"$uri\"", arguments(load));
            let output = Command::new("nbdkit")
                .args(["-U", "-", "file", image.as_str(), "--run", &client])
                .output();
            text(is_installed(output)?.stdout)
        }
        Server::RawFile => qemu_img(load, image.as_str())?,
    };
    let seconds = printed
        .split("completed in ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next()?.parse::<f64>().ok())
        .expect("qemu-img prints the time");
    let bytes = load.block * u64::from(load.count);
    Some(bytes as f64 / seconds / f64::from(1 << 20))
}

fn qemu_img(load: &Load, target: &str) -> Option<String> {
    let output = Command::new("qemu-img")
        .args(arguments(load).split_whitespace())
        .arg(target)
        .output();
    Some(text(is_installed(output)?.stdout))
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

fn is_installed<T>(started: io::Result<T>) -> Option<T> {
    match started {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        result => Some(result.expect("it starts")),
    }
}

fn main() {
    let in_memory = tempfile::tempdir_in("/dev/shm");
    let folder = in_memory
        .or_else(|_| tempfile::tempdir())
        .expect("a folder");
    let folder = Utf8PathBuf::from_path_buf(folder.path().to_owned()).expect("UTF-8");
    let image = folder.join("image");
    let content = provium_testkit::random_bytes(1, SIZE as usize);
    std::fs::write(&image, content).expect("space for an image");
    let filter = std::env::args()
        .nth(1)
        .filter(|word| !word.starts_with('-'));
    for load in &LOADS {
        if filter
            .as_ref()
            .is_some_and(|word| !load.name.contains(word))
        {
            continue;
        }
        let mut best = SERVERS.map(|_| None::<f64>);
        for _ in 0..ROUNDS {
            for (place, (server, _)) in best.iter_mut().zip(SERVERS) {
                if let Some(speed) = measure(server, load, &folder, &image) {
                    *place = Some(place.map_or(speed, |best| best.max(speed)));
                }
            }
        }
        let Some(ours) = best[0] else {
            return;
        };
        let beside: Vec<String> = best
            .iter()
            .zip(SERVERS)
            .skip(1)
            .filter_map(|(speed, (_, name))| {
                let speed = (*speed)?;
                Some(format!("{:.2} of {name} ({speed:.0})", ours / speed))
            })
            .collect();
        println!(
            "disk {}\t{ours:.3}\tMiB/s\t{}",
            load.name,
            beside.join(", ")
        );
    }
}
