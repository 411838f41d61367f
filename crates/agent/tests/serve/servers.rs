//! The agent driven by frames: connections to servers, and waits.

use crate::host::Host;
use provium_protocol::message::WaitResult;
use provium_protocol::op::{Address, Condition};
use provium_protocol::{CallId, ErrorKind, Event, Frame, Lane, Op, Reply, StreamId};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::time::Duration;

const LANE: Lane = Lane::VM;

/// A connection to a server of the test, and the server's side of it.
fn connect(host: &mut Host) -> (CallId, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let address = Address::Port(port);
    let call = host.request(LANE, &Op::Connect { address });
    let (server, _) = listener.accept().unwrap();
    server
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    while host.calls[&call].events.is_empty() {
        host.hear();
    }
    assert_eq!(host.calls[&call].events, [Event::Connected]);
    (call, server)
}

fn send(host: &mut Host, call: CallId, bytes: &[u8]) {
    for piece in bytes.chunks(60_000) {
        host.send(&Frame::data(LANE, call, StreamId::Input, piece.to_vec()));
    }
}

fn await_output(host: &mut Host, call: CallId, len: usize) {
    while host.calls[&call].output.len() < len {
        host.hear();
    }
}

fn await_end(host: &mut Host, call: CallId) {
    while !host.calls[&call].ended {
        host.hear();
    }
}

fn exactly(server: &mut TcpStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    server.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn bytes_and_ends_pass_in_both_directions() {
    let mut host = Host::new();
    let (call, mut server) = connect(&mut host);
    send(&mut host, call, b"ping");
    assert_eq!(exactly(&mut server, 4), b"ping");
    server.write_all(b"pong").unwrap();
    await_output(&mut host, call, 4);
    // The server's end comes while the other direction is open.
    server.shutdown(Shutdown::Write).unwrap();
    await_end(&mut host, call);
    send(&mut host, call, b"more");
    assert_eq!(exactly(&mut server, 4), b"more");
    host.send(&Frame::end(LANE, call, StreamId::Input));
    let mut rest = Vec::new();
    server.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
    let heard = host.finish(call);
    assert_eq!(
        (&heard.output[..], heard.reply),
        (&b"pong"[..], Some(Ok(Reply::Done)))
    );
}

#[test]
fn much_passes_in_both_directions_at_once() {
    let mut host = Host::new();
    let (call, mut server) = connect(&mut host);
    let bytes: Vec<u8> = (0..5_000_000_u32).map(|at| (at % 251) as u8).collect();
    let echo = std::thread::spawn(move || {
        let mut sink = server.try_clone().unwrap();
        std::io::copy(&mut server, &mut sink).unwrap();
    });
    host.input(LANE, call, &bytes);
    let heard = host.finish(call);
    echo.join().unwrap();
    assert!(heard.output == bytes);
    assert_eq!(heard.reply, Some(Ok(Reply::Done)));
}

#[test]
fn without_credit_a_server_waits() {
    let mut host = Host::new();
    host.grants = false;
    let (call, mut server) = connect(&mut host);
    server.set_nonblocking(true).unwrap();
    let mut sent = 0;
    // Until socket, pipe and window are full.
    loop {
        match server.write(&[7; 65536]) {
            Ok(put) => sent += put,
            Err(_) if host.calls[&call].output.len() < 256 * 1024 => host.hear(),
            Err(_) => break,
        }
    }
    assert_eq!(host.calls[&call].output.len(), 256 * 1024);
    assert_eq!(host.sh(LANE, "echo free").output, b"free\n");
    drop(server);
    host.grants = true;
    host.send(&Frame::credit(LANE, call, StreamId::Output, 256 * 1024));
    await_output(&mut host, call, sent);
}

#[test]
fn a_reset_is_an_error_and_not_an_end() {
    let mut host = Host::new();
    let (call, mut server) = connect(&mut host);
    server.write_all(b"begun").unwrap();
    await_output(&mut host, call, 5);
    send(&mut host, call, b"never read");
    server.peek(&mut [0]).unwrap();
    // With bytes that were not read.
    drop(server);
    let heard = host.finish(call);
    assert!(!heard.ended);
    let error = heard.reply.unwrap().unwrap_err();
    assert_eq!((error.kind, error.errno), (ErrorKind::Os, libc::ECONNRESET));
}

#[test]
fn a_server_that_is_not_there_refuses() {
    let mut host = Host::new();
    let mut errno = |address| {
        let error = host.ask(LANE, &Op::Connect { address }).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Os);
        error.errno
    };
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    assert_eq!(errno(Address::Port(port)), libc::ECONNREFUSED);
    let unix = |path: &[u8]| Address::Unix(path.to_vec().into());
    assert_eq!(errno(unix(b"/nonexistent/socket")), libc::ENOENT);
    assert_eq!(errno(unix(&[b'x'; 200])), libc::ENAMETOOLONG);
    assert_eq!(errno(unix(b"@provium-no-such-name")), libc::ECONNREFUSED);
}

#[test]
fn what_was_sent_before_a_cancel_arrives() {
    let mut host = Host::new();
    let (call, mut server) = connect(&mut host);
    let bytes = vec![9; 200_000];
    send(&mut host, call, &bytes);
    host.cancel(LANE, call);
    let error = host.finish(call).reply.unwrap().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Cancelled);
    let mut got = Vec::new();
    server.read_to_end(&mut got).unwrap();
    assert!(got == bytes);
}

#[test]
fn a_cancel_closes_a_connection_that_is_idle() {
    let mut host = Host::new();
    let (call, mut server) = connect(&mut host);
    host.cancel(LANE, call);
    assert_eq!(server.read(&mut [0]).unwrap(), 0);
    assert!(host.finish(call).reply.unwrap().is_err());
}

fn wait(condition: Condition, timeout: u64) -> Op {
    Op::WaitFor {
        condition,
        interval_ns: 5_000_000,
        timeout_ns: timeout * 1_000_000,
    }
}

#[test]
fn a_wait_reports_the_conditions_that_held_and_those_that_did_not() {
    let mut host = Host::new();
    let mut ask = |condition| match host.ask(LANE, &wait(condition, 30)) {
        Ok(Reply::Waited(result)) => result,
        other => panic!("{other:?}"),
    };
    let file = |path: &str| Condition::File(path.as_bytes().to_vec().into());
    assert!(matches!(ask(file("/proc/self/stat")), WaitResult::File(_)));
    let absent = WaitResult::TimedOut {
        errno: libc::ENOENT,
    };
    assert_eq!(ask(file("/nonexistent")), absent);
    let name = |name: &str| Condition::Process(name.as_bytes().to_vec().into());
    let none = WaitResult::TimedOut { errno: libc::ESRCH };
    assert_eq!(ask(name("no-such-command")), none);
    // This test's process, by the name of its executable, which the kernel has cut.
    let own = std::env::current_exe().unwrap();
    let own = own.file_name().unwrap().to_str().unwrap();
    let found = ask(name(own));
    assert!(
        matches!(&found, WaitResult::Processes(pids) if pids.contains(&std::process::id())),
        "{found:?}"
    );
}

#[test]
fn a_wait_for_a_server_does_not_connect_to_it() {
    let mut host = Host::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = Condition::Server(Address::Port(listener.local_addr().unwrap().port()));
    let found = Ok(Reply::Waited(WaitResult::Server));
    assert_eq!(host.ask(LANE, &wait(port.clone(), 0)), found);
    assert!(listener.accept().is_err());
    drop(listener);
    let refused = WaitResult::TimedOut {
        errno: libc::ECONNREFUSED,
    };
    assert_eq!(host.ask(LANE, &wait(port, 20)), Ok(Reply::Waited(refused)));

    let path = std::env::temp_dir().join(format!("provium-agent-wait-{}", std::process::id()));
    let condition = Condition::Server(Address::Unix(
        path.clone().into_os_string().into_encoded_bytes().into(),
    ));
    let listener = UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    assert_eq!(host.ask(LANE, &wait(condition, 0)), found);
    assert!(listener.accept().is_err());
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_wait_ends_as_soon_as_its_condition_holds_and_can_be_cancelled() {
    let mut host = Host::new();
    let path = std::env::temp_dir().join(format!("provium-agent-file-{}", std::process::id()));
    let condition = Condition::File(path.clone().into_os_string().into_encoded_bytes().into());
    let call = host.request(LANE, &wait(condition.clone(), 60_000));
    assert_eq!(host.sh(LANE, "echo free").output, b"free\n");
    assert!(host.calls[&call].reply.is_none());
    std::fs::write(&path, "x").unwrap();
    let reply = host.finish(call).reply.unwrap();
    assert!(matches!(reply, Ok(Reply::Waited(WaitResult::File(stat))) if stat.size == 1));
    std::fs::remove_file(&path).unwrap();
    let call = host.request(LANE, &wait(condition, 60_000));
    host.cancel(LANE, call);
    let error = host.finish(call).reply.unwrap().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Cancelled);
}
