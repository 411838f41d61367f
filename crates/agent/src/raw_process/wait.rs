//! Waiting for a condition: checked in the guest, so that a check takes no round trip.
//!
//! Whether a server listens is looked up in `/proc/net`: a connection to it would be a client, and there are
//! servers that serve only one.

use super::connect;
use super::operation::Operation;
use crate::failure::{self, OpResult};
use crate::sys::tree::Names;
use crate::sys::{Errno, Sys, fd, file, process};
use provium_protocol::Reply;
use provium_protocol::message::WaitResult;
use provium_protocol::op::{Address, Condition};
use std::ffi::CStr;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// Longest name of a command, bytes; the kernel cuts what is longer.
const COMMAND_NAME: usize = 15;
/// Most processes that are reported.
const MOST: usize = 1024;
/// Bytes of a `/proc` file that are read at a time.
const CHUNK: usize = 32 * 1024;
/// The state of a socket that listens, as `/proc/net/tcp` shows it.
const LISTENS: &[u8] = b"0A";
/// The flag of a socket that listens, as `/proc/net/unix` shows it.
const ACCEPTS: &[u8] = b"00010000";
/// The type of a stream socket there.
const STREAM: &[u8] = b"0001";

/// Checks until the condition holds or the time is up.
pub(super) fn run(
    operation: &Operation,
    condition: &Condition,
    interval: Duration,
    timeout: Duration,
) -> OpResult {
    let until = Instant::now().checked_add(timeout);
    let until = until.ok_or_else(|| failure::invalid("too long a wait"))?;
    let mut buffers = Buffers {
        text: vec![0; CHUNK],
        line: Vec::with_capacity(512),
        names: vec![0; CHUNK],
    };
    loop {
        let errno = match check(operation, condition, &mut buffers) {
            Ok(found) => return Ok(Reply::Waited(found)),
            Err(errno) => errno,
        };
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Reply::Waited(WaitResult::TimedOut { errno: errno.0 }));
        }
        let _ = fd::poll(&mut [], Some(interval.min(left)));
    }
}

/// Memory for all checks: this process cannot give back what it allocates.
struct Buffers {
    text: Vec<u8>,
    line: Vec<u8>,
    names: Vec<u8>,
}

fn check(operation: &Operation, condition: &Condition, buffers: &mut Buffers) -> Sys<WaitResult> {
    match condition {
        Condition::File(path) => {
            let found = file::stat(&operation.resolve(path))?;
            Ok(WaitResult::File(found.to_message()))
        }
        Condition::Server(address) => {
            match listed(address, buffers) {
                Some(true) => {}
                Some(false) => return Err(why_not(operation, address)),
                None => drop(connect::open(operation, address)?),
            }
            Ok(WaitResult::Server)
        }
        Condition::Process(name) => match processes(name, buffers)? {
            found if found.is_empty() => Err(Errno::SRCH),
            found => Ok(WaitResult::Processes(found)),
        },
    }
}

/// Whether the kernel lists a server at this address; `None` if its tables do not tell.
fn listed(address: &Address, buffers: &mut Buffers) -> Option<bool> {
    let mut found = false;
    match address {
        Address::Port(port) => {
            let port = port_of(*port);
            let mut look = |table: &CStr, is_local: fn(&[u8]) -> bool| {
                each_line(table, buffers, |line| {
                    found |= is_listener(line, &port, is_local);
                })
            };
            let ipv4 = look(c"/proc/thread-self/net/tcp", is_local_ipv4);
            let ipv6 = look(c"/proc/thread-self/net/tcp6", is_local_ipv6);
            (ipv4 || ipv6).then_some(found)
        }
        Address::Unix(path) => {
            let mut may_be_it = false;
            let read = each_line(c"/proc/thread-self/net/unix", buffers, |line| {
                let Some(name) = unix_listener(line) else {
                    return;
                };
                found |= name == path.as_slice();
                // It was bound by a relative path, so it may be at any.
                may_be_it |= name.first().is_some_and(|byte| !b"/@".contains(byte))
                    && last_part(name) == last_part(path);
            });
            (read && (found || !may_be_it)).then_some(found)
        }
    }
}

/// The errno of a connection to a server that is not there.
fn why_not(operation: &Operation, address: &Address) -> Errno {
    match address {
        Address::Unix(path) if path.first() != Some(&b'@') => {
            file::stat(&operation.resolve(path)).err()
        }
        _ => None,
    }
    .unwrap_or(Errno(libc::ECONNREFUSED))
}

/// The name in a line of `/proc/net/unix`, if it is of a stream socket that listens.
fn unix_listener(line: &[u8]) -> Option<&[u8]> {
    let mut rest = line.strip_suffix(b"\n").unwrap_or(line);
    let mut next = || {
        rest = rest.trim_ascii_start();
        let end = rest.iter().position(|byte| *byte == b' ')?;
        let (field, later) = rest.split_at(end);
        rest = later;
        Some(field)
    };
    let flags = (next()?, next()?, next()?, next()?).3;
    let kind = next()?;
    let (_state, _inode) = (next()?, next()?);
    // One space, then the name, which may begin with spaces.
    (flags == ACCEPTS && kind == STREAM).then(|| &rest[1..])
}

fn last_part(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// Whether a line of `/proc/net/tcp` is of a socket that listens on the port, at a local address.
fn is_listener(line: &[u8], port: &[u8], is_local: impl Fn(&[u8]) -> bool) -> bool {
    let mut fields = fields(line);
    let address = fields.nth(1).unwrap_or_default();
    let state = fields.nth(1).unwrap_or_default();
    let Some(colon) = address.iter().position(|byte| *byte == b':') else {
        return false;
    };
    let (host, number) = (&address[..colon], &address[colon + 1..]);
    state == LISTENS && number == port && is_local(host)
}

/// A port as `/proc/net/tcp` shows it.
fn port_of(port: u16) -> [u8; 4] {
    let digit = |shift: u16| b"0123456789ABCDEF"[usize::from(port >> shift & 0xf)];
    [digit(12), digit(8), digit(4), digit(0)]
}

/// Whether an address, as the table of IPv4 shows it, is that of all interfaces, or of the loopback one.
fn is_local_ipv4(host: &[u8]) -> bool {
    host == b"00000000" || host == b"0100007F"
}

/// The same for IPv6.
fn is_local_ipv6(host: &[u8]) -> bool {
    host.iter().all(|digit| *digit == b'0') || host == b"00000000000000000000000001000000"
}

fn fields(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| byte.is_ascii_whitespace())
        .filter(|field| !field.is_empty())
}

/// Calls `look` with each line of a file; returns false if the file does not exist. A line that is longer than
/// the buffer is passed over.
fn each_line(path: &CStr, buffers: &mut Buffers, mut look: impl FnMut(&[u8])) -> bool {
    let Ok(table) = file::open_at(libc::AT_FDCWD, path, libc::O_RDONLY, 0) else {
        return false;
    };
    let mut held = 0;
    while let Ok(got @ 1..) = fd::read(table.as_raw_fd(), &mut buffers.text[held..]) {
        held += got;
        let mut start = 0;
        while let Some(len) = buffers.text[start..held]
            .iter()
            .position(|byte| *byte == b'\n')
        {
            look(&buffers.text[start..=start + len]);
            start += len + 1;
        }
        buffers.text.copy_within(start..held, 0);
        held -= start;
        if held == buffers.text.len() {
            held = 0;
        }
    }
    true
}

/// The processes of a name, ascending; without those that have ended.
fn processes(name: &[u8], buffers: &mut Buffers) -> Sys<Vec<u32>> {
    let proc = file::open_at(
        libc::AT_FDCWD,
        c"/proc",
        libc::O_RDONLY | libc::O_DIRECTORY,
        0,
    )?;
    let mut found = Vec::new();
    let own = process::id();
    let (text, line) = (&mut buffers.text, &mut buffers.line);
    let mut names = Names::new(proc.as_raw_fd(), &mut buffers.names);
    while let Some(entry) = names.next()? {
        let Some(pid) = std::str::from_utf8(entry.to_bytes())
            .ok()
            .and_then(|text| text.parse::<u32>().ok())
        else {
            continue;
        };
        let mut read = |file: &str, text: &mut [u8]| {
            line.clear();
            line.extend_from_slice(entry.to_bytes());
            line.push(b'/');
            line.extend_from_slice(file.as_bytes());
            line.push(0);
            let path = CStr::from_bytes_with_nul(line).map_err(|_| Errno::INVAL)?;
            let file = file::open_at(proc.as_raw_fd(), path, libc::O_RDONLY, 0)?;
            fd::read(file.as_raw_fd(), text)
        };
        // A process may end meanwhile.
        let Ok(got) = read("stat", text) else {
            continue;
        };
        let Some((command, state)) = name_and_state(&text[..got]) else {
            continue;
        };
        if matches!(state, b'Z' | b'X') || pid == own.unsigned_abs() {
            continue;
        }
        let cut = command.len() == COMMAND_NAME && name.starts_with(command);
        let mut is_it = command == name;
        if cut || !is_it {
            let got = read("cmdline", text).unwrap_or(0);
            let first = text[..got].split(|byte| *byte == 0).next();
            let last = first.and_then(|it| it.rsplit(|byte| *byte == b'/').next());
            is_it |= last == Some(name);
        }
        if is_it && found.len() < MOST {
            found.push(pid);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The command name and the state in a `/proc/PID/stat`. The name may contain any byte.
fn name_and_state(stat: &[u8]) -> Option<(&[u8], u8)> {
    let start = stat.iter().position(|byte| *byte == b'(')?;
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    Some((stat.get(start + 1..end)?, *stat.get(end + 2)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_tables_of_the_kernel() {
        assert_eq!(&port_of(8080), b"1F90");
        let line =
            b"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0\n";
        assert!(is_listener(line, b"1F90", is_local_ipv4));
        assert!(!is_listener(line, b"1F91", is_local_ipv4));
        assert!(is_local_ipv4(b"0100007F") && !is_local_ipv4(b"0A00020F"));
        assert!(is_local_ipv6(&[b'0'; 32]));
        let unix = b"0000000000000000: 00000002 00000000 00010000 0001 01 23456 /run/a b\n";
        assert_eq!(unix_listener(unix), Some(&b"/run/a b"[..]));
        let unnamed = b"0000000000000000: 00000003 00000000 00000000 0001 03 23457\n";
        assert_eq!(unix_listener(unnamed), None);
        assert_eq!(last_part(b"a/b"), b"b");
        assert_eq!(name_and_state(b"12 (a) b) S 1"), Some((&b"a) b"[..], b'S')));
        assert_eq!(name_and_state(b""), None);
    }
}
