//! The log of a console, and its input.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::console::failure_hint::{FailureHint, Matcher};
use crate::console::spool::Spool;

/// Why a console cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// No machine runs.
    #[error("the machine is off")]
    Off,
    /// The log's file cannot be read.
    #[error("the console's log cannot be read")]
    Read(#[source] io::Error),
    /// The log has a gap at its end: the host could not keep what came.
    #[error("{lost} bytes were lost: the console's log cannot be written to the temporary folder")]
    Incomplete {
        /// Bytes that are not in the log.
        lost: u64,
        /// The first error.
        #[source]
        cause: Arc<io::Error>,
    },
    /// The bytes could not be handed to QEMU.
    #[error("the console takes no input")]
    Write(#[source] io::Error),
}

/// A guest's console. Cloning gives another handle on the same one.
#[derive(Clone, Debug)]
pub struct ConsoleLog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    spool: Mutex<Spool>,
    /// How many bytes could not be kept, and why.
    lost: Mutex<Option<(u64, Arc<io::Error>)>>,
    growth: watch::Sender<Growth>,
    /// Where the running machine's output is taken from.
    tap: Mutex<Option<Tap>>,
    /// The way to the running machine. Locked over a whole write, so that two do not mix.
    input: tokio::sync::Mutex<Option<OwnedWriteHalf>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Growth {
    len: u64,
    phase: Phase,
    /// Counts machines, so that the end of an old one is not taken for a new one's.
    machine: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No machine yet: bytes may come.
    Before,
    /// A machine is on.
    On,
    /// The last machine is gone: none will come, unless another is launched.
    Off,
}

impl Default for ConsoleLog {
    fn default() -> Self {
        Self::new()
    }
}

impl ConsoleLog {
    /// A console without a machine.
    pub fn new() -> Self {
        let growth = watch::Sender::new(Growth {
            len: 0,
            phase: Phase::Before,
            machine: 0,
        });
        let input = tokio::sync::Mutex::new(None);
        Self {
            shared: Arc::new(Shared {
                spool: Mutex::default(),
                lost: Mutex::default(),
                growth,
                tap: Mutex::default(),
                input,
            }),
        }
    }

    /// How many bytes have come.
    pub fn len(&self) -> u64 {
        self.shared.growth.borrow().len
    }

    /// Has nothing come yet?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everything so far.
    ///
    /// # Errors
    /// [`ConsoleError::Read`] if a long log's file cannot be read.
    pub fn read_all(&self) -> Result<Vec<u8>, ConsoleError> {
        self.read_from(0)
    }

    /// Everything from `position` on; nothing if that is past the end.
    ///
    /// # Errors
    /// As [`ConsoleLog::read_all`].
    pub fn read_from(&self, position: u64) -> Result<Vec<u8>, ConsoleError> {
        self.read_at_most(position, usize::MAX)
    }

    /// Up to `most` bytes from `position` on.
    ///
    /// # Errors
    /// As [`ConsoleLog::read_all`].
    pub fn read_at_most(&self, position: u64, most: usize) -> Result<Vec<u8>, ConsoleError> {
        self.shared
            .spool()
            .read(position, most)
            .map_err(ConsoleError::Read)
    }

    /// Fails if bytes came that are not in the log.
    ///
    /// # Errors
    /// [`ConsoleError::Incomplete`].
    pub fn check_complete(&self) -> Result<(), ConsoleError> {
        match &*lock(&self.shared.lost) {
            None => Ok(()),
            Some((lost, cause)) => Err(ConsoleError::Incomplete {
                lost: *lost,
                cause: Arc::clone(cause),
            }),
        }
    }

    /// Waits until there is more than `position` bytes. False if there is not and the machine is
    /// gone. Before the first machine it waits.
    pub async fn changed_past(&self, position: u64) -> bool {
        let mut growth = self.shared.growth.subscribe();
        let reached = growth
            .wait_for(|now| now.len > position || now.phase == Phase::Off)
            .await;
        // The sender lives as long as `self`.
        reached.is_ok_and(|now| now.len > position)
    }

    /// Waits until there is more than `position` bytes, also of a machine that starts later.
    pub async fn grown_past(&self, position: u64) {
        let mut growth = self.shared.growth.subscribe();
        // An error cannot occur: the sender lives as long as `self`.
        let _ = growth.wait_for(|now| now.len > position).await;
    }

    /// Types `bytes`. Returns once all are handed over; a guest that does not read its console makes
    /// this wait. Cancelled, some of the bytes may have gone.
    ///
    /// # Errors
    /// [`ConsoleError::Off`] without a running machine.
    pub async fn write(&self, bytes: &[u8]) -> Result<(), ConsoleError> {
        self.write_counted(bytes, &mut 0).await
    }

    /// As [`ConsoleLog::write`]. `typed` is how many bytes were handed over, also when the future was dropped.
    ///
    /// # Errors
    /// As of [`ConsoleLog::write`].
    pub async fn write_counted(&self, bytes: &[u8], typed: &mut usize) -> Result<(), ConsoleError> {
        *typed = 0;
        let mut input = self.shared.input.lock().await;
        let Some(stream) = input.as_mut() else {
            return Err(ConsoleError::Off);
        };
        while *typed < bytes.len() {
            match stream.write(&bytes[*typed..]).await {
                Ok(count) => *typed += count,
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    *input = None;
                    return Err(ConsoleError::Off);
                }
                Err(error) => return Err(ConsoleError::Write(error)),
            }
        }
        Ok(())
    }

    /// Appends what a saved machine had printed, unless the log begins with it: then the machine is restored to
    /// an earlier state of its own.
    pub(crate) fn continue_from(&self, saved: &[u8]) -> Result<(), ConsoleError> {
        let there = self.read_at_most(0, saved.len())?;
        if there != saved {
            self.shared.keep(saved);
        }
        Ok(())
    }

    /// A console without a machine that begins with all that this one has.
    ///
    /// # Errors
    /// As [`ConsoleLog::read_all`].
    pub fn copy(&self) -> Result<Self, ConsoleError> {
        let copy = Self::new();
        let all = self.read_all()?;
        if !all.is_empty() {
            copy.shared.keep(&all);
        }
        lock(&copy.shared.lost).clone_from(&lock(&self.shared.lost));
        // Nothing more will come, as it will not here.
        let is_off = self.shared.growth.borrow().phase == Phase::Off;
        if is_off {
            copy.shared
                .growth
                .send_modify(|growth| growth.phase = Phase::Off);
        }
        Ok(copy)
    }

    /// Everything from `position` on that a paused machine has printed.
    pub(crate) fn read_settled_from(&self, position: u64) -> Result<Vec<u8>, ConsoleError> {
        self.settle();
        self.read_from(position)
    }

    /// Takes all that QEMU has handed over so far into the log. What a guest printed before it
    /// answered a call was handed over before that answer.
    pub fn settle(&self) {
        if let Some(tap) = lock(&self.shared.tap).as_mut() {
            while let Ok(1..) = tap.take(&self.shared) {}
        }
    }

    /// Takes the output of a new machine. The task ends when QEMU's end is closed and all bytes are
    /// kept.
    pub(crate) async fn attach(
        &self,
        stream: UnixStream,
        hints: mpsc::Sender<FailureHint>,
    ) -> JoinHandle<()> {
        let (output, input) = stream.into_split();
        let output = Arc::new(output);
        *self.shared.input.lock().await = Some(input);
        *lock(&self.shared.tap) = Some(Tap {
            output: Arc::clone(&output),
            matcher: Matcher::default(),
            hints,
        });
        let mut machine = 0;
        self.shared.growth.send_modify(|growth| {
            growth.phase = Phase::On;
            growth.machine += 1;
            machine = growth.machine;
        });
        let ending = ConsoleEndGuard {
            shared: Arc::clone(&self.shared),
            output: Arc::clone(&output),
            machine,
        };
        tokio::spawn(pump(output, ending))
    }
}

impl Shared {
    fn spool(&self) -> MutexGuard<'_, Spool> {
        lock(&self.spool)
    }

    fn keep(&self, bytes: &[u8]) {
        let mut spool = self.spool();
        if let Err(error) = spool.append(bytes) {
            tracing::error!(%error, lost = bytes.len(), "bytes of a console could not be kept");
            let mut lost = lock(&self.lost);
            let (count, _) = lost.get_or_insert_with(|| (0, Arc::new(error)));
            *count += bytes.len() as u64;
        }
        let len = spool.len();
        drop(spool);
        self.growth.send_modify(|growth| growth.len = len);
    }
}

/// Marks the console as off, also if the pump is stopped half-way.
struct ConsoleEndGuard {
    shared: Arc<Shared>,
    /// The machine's end of the console, to distinguish it from a later machine's.
    output: Arc<OwnedReadHalf>,
    machine: u64,
}

impl Drop for ConsoleEndGuard {
    fn drop(&mut self) {
        // The stream's descriptor is closed with the machine, and not with the last handle on the log.
        // One that is being written to is closed by its writer, who learns of the end.
        if let Ok(mut input) = self.shared.input.try_lock() {
            let stream: &UnixStream = (*self.output).as_ref();
            input.take_if(|input| std::ptr::eq::<UnixStream>(input.as_ref(), stream));
        }
        // Before the growth is locked: a tap that takes bytes locks it, too.
        lock(&self.shared.tap).take_if(|tap| Arc::ptr_eq(&tap.output, &self.output));
        self.shared.growth.send_if_modified(|growth| {
            let ours = growth.machine == self.machine;
            if ours {
                growth.phase = Phase::Off;
            }
            ours
        });
    }
}

/// Moves a machine's output into the log, in order.
#[derive(Debug)]
struct Tap {
    output: Arc<OwnedReadHalf>,
    matcher: Matcher,
    hints: mpsc::Sender<FailureHint>,
}

impl Tap {
    /// Takes what is there now; 0 at the end.
    fn take(&mut self, shared: &Shared) -> io::Result<usize> {
        let mut buffer = [0; 16 << 10];
        let stream: &UnixStream = (*self.output).as_ref();
        // A read through the runtime returns nothing until the runtime has been notified of the bytes.
        let (count, _) = recv(stream.as_fd(), &mut buffer[..], RecvFlags::DONTWAIT)?;
        shared.keep(&buffer[..count]);
        for hint in self.matcher.feed(&buffer[..count]) {
            // If the channel is full, one more hint would add nothing.
            let _ = self.hints.try_send(hint);
        }
        Ok(count)
    }
}

async fn pump(output: Arc<OwnedReadHalf>, ending: ConsoleEndGuard) {
    while output.readable().await.is_ok() {
        let mut tap = lock(&ending.shared.tap);
        let Some(tap) = tap.as_mut().filter(|tap| Arc::ptr_eq(&tap.output, &output)) else {
            return;
        };
        let stream: &UnixStream = (*output).as_ref();
        // Through the runtime, so that it is notified again when nothing is left.
        match stream.try_io(Interest::READABLE, || tap.take(&ending.shared)) {
            Ok(1..) => (),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
            // A killed QEMU resets its sockets, so an error is an end, too.
            Ok(0) | Err(_) => return,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    async fn attached(console: &ConsoleLog) -> (UnixStream, mpsc::Receiver<FailureHint>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (sender, receiver) = mpsc::channel(4);
        console.attach(ours, sender).await;
        (theirs, receiver)
    }

    #[tokio::test]
    async fn bytes_are_kept_and_announced() {
        let console = ConsoleLog::new();
        let (mut guest, mut hints) = attached(&console).await;
        guest
            .write_all(b"hello\r\nreboot: System ha")
            .await
            .unwrap();
        assert!(console.changed_past(5).await);
        guest.write_all(b"lted").await.unwrap();
        assert_eq!(hints.recv().await.unwrap(), FailureHint::Halted);
        drop(guest);
        assert!(console.changed_past(0).await, "what is there stays there");
        assert!(
            !console.changed_past(console.len()).await,
            "and no more will come"
        );
        assert_eq!(
            console.read_all().unwrap(),
            b"hello\r\nreboot: System halted"
        );
        assert_eq!(console.read_from(24).unwrap(), b"lted");
        assert!(matches!(console.write(b"x").await, Err(ConsoleError::Off)));
    }

    #[tokio::test]
    async fn settling_reads_all_that_was_written() {
        let console = ConsoleLog::new();
        console.settle();
        let (guest, _suspicions) = attached(&console).await;
        let mut guest = guest.into_std().unwrap();
        for round in 1..=200_u64 {
            // Without the runtime, which has not been notified of these bytes.
            io::Write::write_all(&mut guest, &[b'x'; 700]).unwrap();
            console.settle();
            assert_eq!(console.len(), round * 700);
        }
        drop(guest);
        assert!(!console.changed_past(console.len()).await);
        console.settle();
    }

    /// The end of a machine and a settle lock the same two mutexes.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn settling_while_the_machine_ends_does_not_deadlock() {
        for _ in 0..300 {
            let console = ConsoleLog::new();
            let (guest, _hints) = attached(&console).await;
            let mut guest = guest.into_std().unwrap();
            let settling = console.clone();
            let settled = std::thread::spawn(move || {
                while settling.shared.growth.borrow().phase != Phase::Off {
                    settling.settle();
                }
            });
            for _ in 0..50 {
                io::Write::write_all(&mut guest, b"x").unwrap();
            }
            drop(guest);
            assert!(!console.changed_past(50).await);
            settled.join().unwrap();
        }
    }

    #[tokio::test]
    async fn a_write_that_is_cancelled_says_how_much_was_typed() {
        let console = ConsoleLog::new();
        let (mut guest, _hints) = attached(&console).await;
        let mut typed = 0;
        let much = vec![b'x'; 8 << 20];
        {
            let write = console.write_counted(&much, &mut typed);
            tokio::select! {
                biased;
                written = write => panic!("{written:?}: the socket holds less than that"),
                () = tokio::task::yield_now() => {}
            }
        }
        assert!((1..much.len()).contains(&typed), "{typed}");
        let mut taken = vec![0; typed];
        guest.read_exact(&mut taken).await.unwrap();
        console.write_counted(b"then", &mut typed).await.unwrap();
        let mut then = [0; 4];
        guest.read_exact(&mut then).await.unwrap();
        assert_eq!((&then, typed), (b"then", 4));
    }

    #[tokio::test]
    async fn a_second_machine_adds_to_the_log() {
        let console = ConsoleLog::new();
        for text in [b"first ", b"second"] {
            let (mut guest, _suspicions) = attached(&console).await;
            let before = console.len();
            guest.write_all(text).await.unwrap();
            assert!(console.changed_past(before).await);
            console.write(b"typed").await.unwrap();
            let mut typed = [0; 5];
            guest.read_exact(&mut typed).await.unwrap();
            drop(guest);
            assert!(!console.changed_past(before + 6).await);
        }
        assert_eq!(console.read_all().unwrap(), b"first second");
    }

    #[tokio::test]
    async fn bytes_that_cannot_be_kept_are_missed() {
        let console = ConsoleLog::new();
        console.shared.keep(b"kept");
        console.check_complete().unwrap();
        console.shared.spool().fail_writes();
        console.shared.keep(b"lost");
        console.copy().unwrap().check_complete().unwrap_err();
        let error = console.check_complete().unwrap_err();
        assert!(
            error.to_string().starts_with("4 bytes were lost"),
            "{error}"
        );
        assert_eq!(console.read_at_most(0, 100).unwrap(), b"kept");
    }

    #[tokio::test]
    async fn a_copy_has_the_same_content_and_is_independent() {
        let console = ConsoleLog::new();
        assert!(console.copy().unwrap().is_empty());
        let (mut guest, _suspicions) = attached(&console).await;
        guest.write_all(b"both").await.unwrap();
        assert!(console.changed_past(0).await);
        drop(guest);
        assert!(!console.changed_past(4).await);

        let copy = console.copy().unwrap();
        assert!(!copy.changed_past(4).await, "it ended there, too");
        let (mut guest, _suspicions) = attached(&copy).await;
        guest.write_all(b" one").await.unwrap();
        assert!(copy.changed_past(4).await);
        assert_eq!(copy.read_all().unwrap(), b"both one");
        assert_eq!(console.read_all().unwrap(), b"both");
    }
}
