//! What the layers of a disk cost, beside a plain file in the same folder, and how many crash states a second there
//! are.
//!
//! Prints rows for `make bench`: name, value, unit and remark, with tabs between them.

#![expect(clippy::print_stdout, clippy::expect_used, reason = "a benchmark")]

use camino::Utf8Path;
use provium_disk::{Base, Command, CommandKind, CrashOptions, Disk, DiskSpec, Export};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Instant;

const SIZE: u64 = 256 << 20;

/// What is measured.
trait Target {
    fn write(&self, offset: u64, data: &[u8]);
    fn read(&self, offset: u64, buffer: &mut [u8]);
}

impl Target for File {
    fn write(&self, offset: u64, data: &[u8]) {
        self.write_all_at(data, offset).expect("space");
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) {
        self.read_exact_at(buffer, offset).expect("a file");
    }
}

fn command(kind: CommandKind, offset: u64, length: u64) -> Command {
    Command {
        kind,
        offset,
        length,
        fua: false,
    }
}

impl Target for Disk {
    fn write(&self, offset: u64, data: &[u8]) {
        let admission = self.admit(command(CommandKind::Write, offset, data.len() as u64));
        Export::write(self, &admission, data).expect("space");
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) {
        let admission = self.admit(command(CommandKind::Read, offset, buffer.len() as u64));
        Export::read(self, &admission, buffer).expect("a disk");
    }
}

/// Where the commands of a pass go.
fn offsets(length: usize, random: bool) -> Vec<u64> {
    let length = length as u64;
    let count = if random { 40_000 } else { SIZE / length };
    let mut chance = fastrand::Rng::with_seed(1);
    (0..count)
        .map(|number| {
            let number = if random {
                chance.u64(..SIZE / length)
            } else {
                number
            };
            number * length
        })
        .collect()
}

fn seconds(target: &impl Target, kind: CommandKind, length: usize, offsets: &[u64]) -> f64 {
    let mut buffer = vec![7; length];
    let start = Instant::now();
    for &offset in offsets {
        match kind {
            CommandKind::Read => target.read(offset, &mut buffer),
            _ => target.write(offset, &buffer),
        }
    }
    start.elapsed().as_secs_f64()
}

/// The median of five passes.
fn median(mut pass: impl FnMut() -> f64) -> f64 {
    let mut times: Vec<f64> = (0..5).map(|_| pass()).collect();
    times.sort_by(f64::total_cmp);
    times[2]
}

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = Utf8Path::from_path(folder.path()).expect("a name in UTF-8");
    let file = File::options()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(folder.join("file"))
        .expect("a file");
    let disk = Disk::open(DiskSpec {
        size: SIZE,
        base: Base::Zeroes,
        read_only: false,
        scratch: folder.to_owned(),
        seed: 1,
    })
    .expect("a disk");
    for (name, kind, length, random) in [
        (
            "sequential 1 MiB writes",
            CommandKind::Write,
            1 << 20,
            false,
        ),
        (
            "sequential 64 KiB writes",
            CommandKind::Write,
            1 << 16,
            false,
        ),
        ("sequential 64 KiB reads", CommandKind::Read, 1 << 16, false),
        ("random 4 KiB writes", CommandKind::Write, 1 << 12, true),
        ("random 4 KiB reads", CommandKind::Read, 1 << 12, true),
        ("random 1 KiB writes", CommandKind::Write, 1 << 10, true),
        (
            "sequential 64 KiB reads after them",
            CommandKind::Read,
            1 << 16,
            false,
        ),
    ] {
        let offsets = offsets(length, random);
        // The first pass of each is not counted: it allocates the pages of the host's cache.
        seconds(&file, kind, length, &offsets);
        seconds(&disk, kind, length, &offsets);
        let plain = median(|| seconds(&file, kind, length, &offsets));
        let layers = median(|| seconds(&disk, kind, length, &offsets));
        let each = layers / offsets.len() as f64 * 1e6;
        println!(
            "disk layers: {name}\t{:.2}\tof a file\t{each:.1} µs each",
            plain / layers
        );
    }
    crash_states(folder);
}

fn crash_states(folder: &Utf8Path) {
    let disk = Disk::open(DiskSpec {
        size: 64 << 20,
        base: Base::Zeroes,
        read_only: false,
        scratch: folder.to_owned(),
        seed: 1,
    })
    .expect("a disk");
    Target::write(&disk, 0, &vec![3; 64 << 20]);
    disk.record_log(true).expect("a log");
    let mut chance = fastrand::Rng::with_seed(1);
    for number in 0..2000u64 {
        // Like a file system with blocks of 1 KiB: most writes cover a part of a block.
        Target::write(&disk, chance.u64(..65_000) * 1024, &[number as u8; 1024]);
        if number % 20 == 0 {
            let flush = disk.admit(command(CommandKind::Flush, 0, 0));
            disk.carry_out(&flush).expect("a flush");
        }
    }
    let options = CrashOptions {
        since: None,
        most: 20_000,
        seed: 1,
    };
    let start = Instant::now();
    let count = disk.crash_states(options).expect("a log").count();
    let rate = count as f64 / start.elapsed().as_secs_f64();
    println!("crash states of a 64 MiB disk\t{rate:.0}\t/s\t{count} states of 2000 writes");
}
