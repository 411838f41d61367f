//! Clients of this process that talk to servers of a guest, through `vm:forward`.

use crate::process::{LIMIT, wait_for};
use crate::project::{Project, RunningCommand};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;

const CLIENTS: usize = 20;
/// What each client sends and gets back, bytes; 50 MB in all.
const LENGTH: usize = 2_500_000;

/// An echo server, and a port on which nothing listens. The test continues until the file `end` exists.
///
/// busybox's `nc` has a backlog of as many connections as it is given `-l`. If more come at once, the guest's
/// kernel resets some of them, as it should.
const SERVE: &str = r#"local vm = provium:vm("v", "default"):boot()
vm:run_async("nc -" .. ("l"):rep(64) .. " -p 7 -e cat")
vm:wait_for{port = 7, timeout = "60s"}
test("serve", {timeout = "300s"}, function(t)
  local text = vm:forward(7) .. " " .. vm:forward(9)
  io.open("addresses.new", "w"):write(text):close()
  os.rename("addresses.new", "addresses")
  wait_until(function() return io.open("kill") or io.open("end") end, {timeout = "280s"})
  if io.open("end") then
    wait_until(function() return vm:open_stream_count() == 0 end, {timeout = "30s"})
    return
  end
  vm:shutdown()
  io.open("killed", "w"):close()
  wait_until(function() return io.open("end") end, {timeout = "280s"})
end)
"#;

/// A run whose guest serves, and the addresses on the host.
fn serve(project: &Project) -> (RunningCommand, [SocketAddr; 2]) {
    let running = project.start(&["--timeout", "0", "serve.test.lua"]);
    let file = project.file("addresses");
    wait_for("the addresses", || file.exists());
    let text = project.read("addresses");
    let mut addresses = text.split(' ').map(|text| text.parse().unwrap());
    let both = [addresses.next().unwrap(), addresses.next().unwrap()];
    (running, both)
}

fn connect(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    client.set_write_timeout(Some(LIMIT)).unwrap();
    client
}

/// Bytes that differ from client to client, and from place to place.
fn content(client: usize) -> Vec<u8> {
    (0..LENGTH)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 7).wrapping_add(client) as u8)
        .collect()
}

/// Sends, ends its side, and gets the same back up to the end.
fn echo(address: SocketAddr, client: usize) {
    let mut stream = connect(address);
    let sent = content(client);
    let mut writer = stream.try_clone().unwrap();
    let bytes = sent.clone();
    let writing = thread::spawn(move || {
        writer.write_all(&bytes).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    writing.join().unwrap();
    assert!(got == sent, "client {client}: {} bytes", got.len());
}

#[track_caller]
fn is_reset(read: io::Result<usize>) {
    let error = read.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
}

#[test]
#[ignore = "boots guests"]
fn many_clients_at_once_get_their_own_bytes() {
    let project = Project::new(&[("serve.test.lua", SERVE)]);
    let (running, [echoes, refuses]) = serve(&project);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| thread::spawn(move || echo(echoes, client)))
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    // Nothing listens there: an error, and no empty answer.
    is_reset(connect(refuses).read(&mut [0]));
    project.write("end", "");
    running.wait().passes();
    let gone = TcpStream::connect(echoes).unwrap_err();
    assert_eq!(gone.kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
#[ignore = "boots guests"]
fn the_end_of_the_guest_resets_its_clients() {
    let project = Project::new(&[("serve.test.lua", SERVE)]);
    let (running, [echoes, _]) = serve(&project);
    let mut client = connect(echoes);
    client.write_all(b"ping").unwrap();
    client.read_exact(&mut [0; 4]).unwrap();
    project.write("kill", "");
    is_reset(client.read(&mut [0]));
    wait_for("the end of the VM", || project.file("killed").exists());
    is_reset(connect(echoes).read(&mut [0]));
    project.write("end", "");
    running.wait().passes();
}
