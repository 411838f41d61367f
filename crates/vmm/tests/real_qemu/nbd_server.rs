//! A small NBD server of zeroes, which notes what it is sent.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use camino::{Utf8Path, Utf8PathBuf};

use super::SOON;

/// Transmission flags of the NBD protocol: `HAS_FLAGS`, `READ_ONLY`, `SEND_FLUSH`.
const HAS_FLAGS: u16 = 1;
const READ_ONLY: u16 = 1 << 1;
const SEND_FLUSH: u16 = 1 << 2;

/// `NBD_CMD_FLUSH`
pub(super) const FLUSH: u16 = 3;

/// What an export is.
#[derive(Clone, Copy)]
pub(super) struct Export {
    pub(super) size: u64,
    pub(super) read_only: bool,
}

/// A server. Dropping it closes its socket; connections end with their other sides.
pub(super) struct NbdServer {
    pub(super) socket: Utf8PathBuf,
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    now: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// No more connections are served.
    is_ending: bool,
    /// Connections that transmit.
    open: usize,
    /// Types of the commands.
    commands: Vec<u16>,
}

impl NbdServer {
    pub(super) fn start(folder: &Utf8Path, name: &str, export: Export) -> Self {
        let socket = folder.join(name);
        let listener = UnixListener::bind(&socket).unwrap();
        let seen = Arc::<Seen>::default();
        let notes = Arc::clone(&seen);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), notes) = (stream, Arc::clone(&notes)) else {
                    return;
                };
                if notes.now.lock().unwrap().is_ending {
                    return;
                }
                // An error is the end of a connection.
                std::thread::spawn(move || serve(stream, export, &notes));
            }
        });
        Self {
            socket,
            seen,
            thread: Some(thread),
        }
    }

    /// Waits until so many connections transmit.
    pub(super) fn wait_open(&self, count: usize) {
        let now = self.seen.now.lock().unwrap();
        let waited = self
            .seen
            .changed
            .wait_timeout_while(now, SOON, |now| now.open != count);
        let (now, timeout) = waited.unwrap();
        assert!(
            !timeout.timed_out(),
            "{} connections, not {count}",
            now.open
        );
    }

    /// How many commands of this type came.
    pub(super) fn count(&self, command: u16) -> usize {
        let now = self.seen.now.lock().unwrap();
        now.commands.iter().filter(|seen| **seen == command).count()
    }
}

impl Drop for NbdServer {
    fn drop(&mut self) {
        self.seen.note(|now| now.is_ending = true);
        // Its thread waits for a connection.
        let _ = UnixStream::connect(&self.socket);
        // A panic of it has been printed.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Seen {
    fn note(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.now.lock().unwrap());
        self.changed.notify_all();
    }
}

fn serve(mut stream: UnixStream, export: Export, seen: &Seen) -> io::Result<()> {
    stream.write_all(b"NBDMAGICIHAVEOPT\0\x03")?;
    stream.read_exact(&mut [0; 4])?;
    let flags = if export.read_only { READ_ONLY } else { 0 } | HAS_FLAGS | SEND_FLUSH;
    let info = [
        &[0; 2],
        &export.size.to_be_bytes()[..],
        &flags.to_be_bytes(),
    ]
    .concat();
    loop {
        let mut header = [0; 16];
        stream.read_exact(&mut header)?;
        let number = u32::from_be_bytes(header[8..12].try_into().unwrap());
        let length = u32::from_be_bytes(header[12..].try_into().unwrap());
        io::copy(&mut (&stream).take(length.into()), &mut io::sink())?;
        let mut reply = |kind: u32, data: &[u8]| {
            let mut reply = 0x0003_e889_0455_65a9_u64.to_be_bytes().to_vec();
            for word in [number, kind, data.len() as u32] {
                reply.extend(word.to_be_bytes());
            }
            reply.extend(data);
            stream.write_all(&reply)
        };
        match number {
            // ABORT
            2 => return reply(1, &[]),
            // INFO and GO
            6 | 7 => {
                reply(3, &info)?;
                reply(1, &[])?;
                if number == 7 {
                    break;
                }
            }
            // NBD_REP_ERR_UNSUP
            _ => reply((1 << 31) | 1, &[])?,
        }
    }
    seen.note(|now| now.open += 1);
    let ended = transmit(&stream, seen);
    seen.note(|now| now.open -= 1);
    ended
}

fn transmit(mut stream: &UnixStream, seen: &Seen) -> io::Result<()> {
    loop {
        let mut request = [0; 28];
        stream.read_exact(&mut request)?;
        let command = u16::from_be_bytes([request[6], request[7]]);
        let length = u32::from_be_bytes(request[24..].try_into().unwrap());
        seen.note(|now| now.commands.push(command));
        let mut reply = 0x6744_6698_u32.to_be_bytes().to_vec();
        reply.extend([0; 4]);
        reply.extend(&request[8..16]);
        match command {
            // READ
            0 => reply.resize(reply.len() + length as usize, 0),
            // WRITE
            1 => drop(io::copy(&mut stream.take(length.into()), &mut io::sink())?),
            // DISC
            2 => return Ok(()),
            _ => {}
        }
        stream.write_all(&reply)?;
    }
}
