//! A disk: its layers together.

use crate::base::{Base, BaseLayer};
use crate::command::{Admission, Command, CommandKind, Effect};
use crate::error::DiskError;
use crate::export::{Export, FlushPoint};
use crate::faults::{FaultId, FaultRule, FaultTable, corrupt};
use crate::geometry::{BLOCK, SECTOR, Span, to_usize};
use crate::host_failure::{CommandError, HostFailure, HostFailureLog, HostFailures};
use crate::layers::Layers;
use crate::record::RecordKind;
use crate::state::{State, errno};
use crate::stats::{Counters, DiskStats, add};
use camino::Utf8PathBuf;
use parking_lot::{Mutex, RwLock, RwLockWriteGuard};
use rustix::io::Errno;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The largest disk, bytes: 4 EiB. QEMU's own limit is twice that, and depends on its version.
const LARGEST: u64 = 1 << 62;

/// The description of a disk to open.
#[derive(Debug, Clone)]
pub struct DiskSpec {
    /// Bytes: a multiple of 512, and at least as many as the image has. After the end of the image it has zeroes. See
    /// [`image_size`](crate::image_size).
    pub size: u64,
    /// What it begins with.
    pub base: Base,
    /// Whether the guest cannot write. An image that is then never written to is shared by any number of disks.
    pub read_only: bool,
    /// The folder for its overlay. The files there have no names, so nothing is left when the process ends.
    pub scratch: Utf8PathBuf,
    /// The seed for the random choices of faults.
    pub seed: u64,
}

/// A disk. Clones are the same disk; see [`fork`](Self::fork) for a copy. Many methods because it is the only way to
/// all of its layers; each layer has its own in its own file.
#[derive(Debug, Clone)]
pub struct Disk(pub(crate) Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) size: u64,
    pub(crate) read_only: bool,
    pub(crate) seed: u64,
    pub(crate) state: RwLock<State>,
    pub(crate) faults: Mutex<FaultTable>,
    /// Whether the table has rules, so that a disk without any takes no second lock for each command.
    has_faults: AtomicBool,
    counters: Counters,
    pub(crate) host_failures: HostFailureLog,
}

impl Disk {
    /// Opens a disk.
    ///
    /// # Errors
    /// The image is missing, in use, not raw, or larger than the disk; the size is not one of whole sectors.
    pub fn open(spec: DiskSpec) -> Result<Self, DiskError> {
        if !(SECTOR..=LARGEST).contains(&spec.size) || !spec.size.is_multiple_of(SECTOR) {
            return Err(DiskError::Size { size: spec.size });
        }
        let base = BaseLayer::open(spec.base, spec.size, spec.read_only)?;
        let state = State::new(Layers::new(spec.size / SECTOR, base, spec.scratch));
        let faults = FaultTable::new(spec.seed);
        Ok(Self::with(state, spec.read_only, faults, spec.seed))
    }

    pub(crate) fn with(state: State, read_only: bool, faults: FaultTable, seed: u64) -> Self {
        Self(Arc::new(Shared {
            size: state.layers.sectors * SECTOR,
            read_only,
            seed,
            state: RwLock::new(state),
            has_faults: AtomicBool::new(!faults.is_empty()),
            faults: Mutex::new(faults),
            counters: Counters::default(),
            host_failures: HostFailureLog::default(),
        }))
    }

    /// Its size, bytes.
    pub fn size(&self) -> u64 {
        self.0.size
    }

    /// Whether the guest cannot write to it.
    pub fn is_read_only(&self) -> bool {
        self.0.read_only
    }

    /// Whether the image that it is a copy of is as it was when the disk was opened. An image that the disk writes to
    /// itself may change.
    ///
    /// # Errors
    /// Something has written to the image.
    pub fn check_image(&self) -> Result<(), DiskError> {
        self.0.state.read().layers.base.check()
    }

    /// Reads sectors of 512 bytes, as the guest would read them now: what it wrote and has not flushed is there. Faults
    /// do not act on it, and it is not counted. It works while the disk is off, and reads what the power cut left.
    ///
    /// # Errors
    /// The disk does not have these sectors, or the host cannot read its files.
    pub fn read_sectors(&self, first: u64, count: u64) -> Result<Vec<u8>, DiskError> {
        let span = self.span(first, count)?;
        let mut data = vec![0; to_usize(span.bytes())];
        self.0
            .state
            .read()
            .layers
            .read(first * SECTOR, &mut data)
            .map_err(DiskError::io("read"))?;
        Ok(data)
    }

    /// Writes sectors of 512 bytes. They are durable at once. Faults do not act on it, and it is not counted; the log
    /// has it.
    ///
    /// # Errors
    /// The data is not whole sectors, the disk does not have them or is read-only, or the host cannot write its files.
    pub fn write_sectors(&self, first: u64, data: &[u8]) -> Result<(), DiskError> {
        if !(data.len() as u64).is_multiple_of(SECTOR) {
            return Err(DiskError::NotSectors { length: data.len() });
        }
        if self.0.read_only {
            return Err(DiskError::ReadOnly);
        }
        let span = self.span(first, data.len() as u64 / SECTOR)?;
        if span.count == 0 {
            return Ok(());
        }
        self.0
            .store(span, data, true, Issuer::Test)
            .map_err(|error| DiskError::io("write")(error.into()))
    }

    fn span(&self, first: u64, count: u64) -> Result<Span, DiskError> {
        let sectors = self.0.size / SECTOR;
        match first.checked_add(count) {
            Some(end) if end <= sectors => Ok(Span { first, count }),
            _ => Err(DiskError::OutOfRange {
                first,
                last: first.saturating_add(count.saturating_sub(1)),
                sectors,
            }),
        }
    }

    /// Adds a fault, after those that exist: delays add up, and the first one that does more than delay decides.
    pub fn inject(&self, rule: FaultRule) -> FaultId {
        self.change_faults(|faults| faults.add(rule))
    }

    /// Removes a fault. Whether it existed.
    pub fn remove(&self, fault: FaultId) -> bool {
        self.change_faults(|faults| faults.remove(fault))
    }

    /// Removes all faults.
    pub fn clear_faults(&self) {
        self.change_faults(FaultTable::clear);
    }

    /// The faults in the order in which they were added, each with the number of commands that it has acted on. A fault
    /// that has reached its count is still listed.
    pub fn faults(&self) -> Vec<(FaultId, FaultRule, u64)> {
        self.0.faults.lock().list()
    }

    fn change_faults<T>(&self, change: impl FnOnce(&mut FaultTable) -> T) -> T {
        let mut faults = self.0.faults.lock();
        let result = change(&mut faults);
        (self.0.has_faults).store(!faults.is_empty(), Ordering::Release);
        result
    }

    /// Counts of the guest's commands.
    pub fn stats(&self) -> DiskStats {
        let unflushed = self.0.state.read().unflushed;
        DiskStats {
            unflushed_writes: unflushed.writes,
            unflushed_bytes: unflushed.bytes,
            ..self.0.counters.stats()
        }
    }

    /// The commands of the guest that failed because of the host. `None`: no command has.
    pub fn host_failures(&self) -> Option<HostFailures> {
        self.0.host_failures.failures()
    }

    /// Calls `observer` when the first command of the guest fails because of the host, on the thread that carries out
    /// the command.
    pub fn observe_host_failure(&self, observer: impl Fn(&HostFailure) + Send + 'static) {
        self.0.host_failures.observe(observer);
    }

    /// Sets how many bytes of writes are kept volatile, 64 MiB at first. When there are more, the oldest become
    /// durable. Data counts in blocks of 4 KiB.
    pub fn set_cache_limit(&self, bytes: u64) {
        self.0.state.write().cache_limit = bytes;
    }
}

/// Who writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Issuer {
    Guest,
    Test,
}

impl Shared {
    /// Writes data: it is readable when this returns, and durable if that is wanted.
    fn store(
        &self,
        span: Span,
        data: &[u8],
        is_durable: bool,
        issuer: Issuer,
    ) -> Result<(), CommandError> {
        if span.blocks() == 1 && !span.covers(span.first_block(), self.size / SECTOR) {
            let mut state = self.state.write();
            if issuer == Issuer::Guest {
                state.check_power()?;
            }
            return Ok(state.store_part(span, data, is_durable)?);
        }
        loop {
            let taken = self.state.write().layers.take(span.blocks())?;
            let written = taken.write(span.first * SECTOR % BLOCK, data);
            let mut state = self.state.write();
            if issuer == Issuer::Guest && !state.is_on {
                state.layers.give_back(&taken);
                return Err(Errno::IO.into());
            }
            // While the data was written, a copy of the disk was made, which has the file now.
            if !state.layers.is_current(&taken) {
                continue;
            }
            let published = written.and_then(|()| state.publish(&taken, span, is_durable));
            if published.is_err() {
                state.layers.give_back(&taken);
            }
            return Ok(published?);
        }
    }

    fn flush(&self) -> Result<(), CommandError> {
        let (mut state, point) = self.prepare_flush()?;
        state.complete_flush(point);
        Ok(())
    }

    /// What the faults do to a command, without counting it.
    fn foresee(&self, command: Command) -> Effect {
        if !self.has_faults.load(Ordering::Acquire) {
            return Effect::Normal;
        }
        // The copy draws the same random numbers as the table will.
        let mut faults = self.faults.lock().clone();
        faults.admit(command).effect
    }

    /// Does what can fail of a flush, and returns with the lock.
    fn prepare_flush(&self) -> Result<(RwLockWriteGuard<'_, State>, FlushPoint), CommandError> {
        let mut state = self.state.write();
        state.check_power()?;
        let point = state.prepare_flush()?;
        if let Some(image) = state.layers.base.in_place().cloned() {
            // The host may take seconds to write an image to its disk; other commands need not wait for it.
            RwLockWriteGuard::unlocked(&mut state, || image.file.sync_data())?;
            state.check_power()?;
        }
        Ok((state, point))
    }

    fn store_zeroes(
        &self,
        kind: RecordKind,
        span: Span,
        is_durable: bool,
    ) -> Result<(), CommandError> {
        let mut state = self.state.write();
        state.check_power()?;
        Ok(state.store_zeroes(kind, span, is_durable)?)
    }

    /// Counts a failure, and converts it to the guest's error.
    fn answer(&self, admission: &Admission, result: Result<(), CommandError>) -> Result<(), Errno> {
        result.map_err(|error| {
            add(&self.counters.failed, 1);
            match error {
                CommandError::Refused(errno) => errno,
                CommandError::Host(error) => {
                    self.host_failures.note(admission.command.kind, &error)
                }
            }
        })
    }

    fn change(&self, admission: &Admission) -> Result<(), CommandError> {
        let Command {
            kind,
            offset,
            length,
            fua,
        } = admission.command;
        if let Effect::Fail(error) = admission.effect {
            return Err(error.into());
        }
        let is_durable = fua && admission.effect != Effect::DropFlush;
        let span = Span::of_bytes(offset, length);
        match kind {
            CommandKind::Flush if admission.effect == Effect::DropFlush => Ok(()),
            CommandKind::Flush => self.flush(),
            CommandKind::WriteZeroes | CommandKind::Discard if self.read_only => {
                Err(Errno::PERM.into())
            }
            _ if span.count == 0 => Ok(()),
            CommandKind::WriteZeroes => self.store_zeroes(RecordKind::Zeroes, span, is_durable),
            CommandKind::Discard => self.store_zeroes(RecordKind::Discard, span, is_durable),
            CommandKind::Read | CommandKind::Write => Err(Errno::INVAL.into()),
        }
    }

    fn write(&self, admission: &Admission, data: &[u8]) -> Result<(), CommandError> {
        let command = admission.command;
        if self.read_only {
            return Err(Errno::PERM.into());
        }
        let span = Span::of_bytes(command.offset, data.len() as u64);
        let changed;
        let (span, data) = match admission.effect {
            Effect::Fail(error) => return Err(error.into()),
            Effect::Tear { sectors } if sectors < span.count => {
                let kept = &data[..to_usize(sectors * SECTOR)];
                (
                    Span {
                        count: sectors,
                        ..span
                    },
                    kept,
                )
            }
            Effect::Corrupt { seed, start, end } => {
                let mut copy = data.to_vec();
                corrupt(&mut copy, seed, start, end);
                changed = copy;
                (span, changed.as_slice())
            }
            Effect::Normal | Effect::Tear { .. } | Effect::DropFlush => (span, data),
        };
        if span.count == 0 {
            return Ok(());
        }
        let is_durable = command.fua && admission.effect != Effect::DropFlush;
        self.store(span, data, is_durable, Issuer::Guest)
    }

    fn read(&self, admission: &Admission, buffer: &mut [u8]) -> Result<(), CommandError> {
        if let Effect::Fail(error) = admission.effect {
            return Err(error.into());
        }
        {
            let state = self.state.read();
            state.check_power()?;
            state.layers.read(admission.command.offset, buffer)?;
        }
        if let Effect::Corrupt { seed, start, end } = admission.effect {
            corrupt(buffer, seed, start, end);
        }
        Ok(())
    }
}

impl Export for Disk {
    fn size(&self) -> u64 {
        self.0.size
    }

    fn is_read_only(&self) -> bool {
        self.0.read_only
    }

    fn admit(&self, command: Command) -> Admission {
        if !self.0.has_faults.load(Ordering::Acquire) {
            return Admission::normal(command);
        }
        self.0.faults.lock().admit(command)
    }

    fn read(&self, admission: &Admission, buffer: &mut [u8]) -> Result<(), Errno> {
        let counters = &self.0.counters;
        self.0.answer(admission, self.0.read(admission, buffer))?;
        add(&counters.reads, 1);
        add(&counters.read_bytes, buffer.len() as u64);
        Ok(())
    }

    fn write(&self, admission: &Admission, data: &[u8]) -> Result<(), Errno> {
        let counters = &self.0.counters;
        self.0.answer(admission, self.0.write(admission, data))?;
        add(&counters.writes, 1);
        add(&counters.written_bytes, data.len() as u64);
        Ok(())
    }

    fn carry_out(&self, admission: &Admission) -> Result<(), Errno> {
        let counters = &self.0.counters;
        self.0.answer(admission, self.0.change(admission))?;
        match admission.command.kind {
            CommandKind::Flush => add(&counters.flushes, 1),
            CommandKind::Discard => add(&counters.discards, 1),
            _ => {
                add(&counters.writes, 1);
                add(&counters.written_bytes, admission.command.length);
            }
        }
        Ok(())
    }

    fn prepare_flush(&self, command: Command) -> Result<FlushPoint, Errno> {
        match self.0.foresee(command) {
            Effect::Fail(error) => Err(error),
            Effect::DropFlush => Ok(FlushPoint::default()),
            _ => match self.0.prepare_flush() {
                Ok((_, point)) => Ok(point),
                Err(CommandError::Refused(error)) => Err(error),
                Err(CommandError::Host(error)) => Err(errno(&error)),
            },
        }
    }

    fn complete_flush(&self, command: Command, prepared: Result<FlushPoint, Errno>) {
        let admission = self.admit(command);
        let is_refused = matches!(admission.effect, Effect::Fail(_)) || !self.is_on();
        let answered = match prepared {
            Ok(point) => {
                self.0.state.write().complete_flush(point);
                Ok(())
            }
            Err(error) if is_refused => Err(CommandError::Refused(error)),
            Err(error) => Err(CommandError::Host(error.into())),
        };
        // An error has been reported to the guest already.
        if self.0.answer(&admission, answered).is_ok() {
            add(&self.0.counters.flushes, 1);
        }
    }
}

impl Drop for Shared {
    /// The end of a disk is not a power cut: an image that is written in place has all writes afterwards. Errors have
    /// no place to go; a guest that needs its data has flushed it.
    fn drop(&mut self) {
        let state = self.state.get_mut();
        if state.is_on {
            let _ = state.write_back(state.first_unflushed());
        }
    }
}
