//! An uplink to the host, by the real `passt`. Run with `--ignored` where it is installed.

#![expect(clippy::expect_used, reason = "tests")]

use bytes::Bytes;
use provium_switch::router::InterfaceSettings;
use provium_switch::shell::{OwnedPort, PortSource, RouterTask, Switch};
use provium_switch::uplink::{self, PasstOptions};
use provium_switch::{MacAddress, PortSettings};
use rustix::io::{FdFlags, fcntl_setfd};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Address};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};
use std::time::Duration;

/// A station with a TCP/IP stack.
struct Station {
    port: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
}

struct Wire(OwnedPort);
struct ReceivedFrame(Bytes);
struct Sender<'a>(&'a OwnedPort);

impl RxToken for ReceivedFrame {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl TxToken for Sender<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut frame = vec![0; length];
        let result = write(&mut frame);
        self.0.send([Bytes::from(frame)]).expect("running");
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = ReceivedFrame;
    type TxToken<'a> = Sender<'a>;

    fn receive(&mut self, _: Instant) -> Option<(ReceivedFrame, Sender<'_>)> {
        let (_, frame) = self.0.try_recv()?;
        Some((ReceivedFrame(frame), Sender(&self.0)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sender<'_>> {
        Some(Sender(&self.0))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        (capabilities.medium, capabilities.max_transmission_unit) = (Medium::Ethernet, 1514);
        capabilities
    }
}

impl Station {
    /// Connects to the host from port 4000, which all stations use.
    async fn connect(switch: &Switch, host: u8, to: (Ipv4Address, u16)) -> Self {
        let settings = PortSettings::new(format!("station-{host}"));
        let port = OwnedPort::open(switch, PortSource::New(settings)).await;
        let mut port = Wire(port.expect("running"));
        let mac = EthernetAddress(MacAddress::local(host.into()).0);
        let mut interface = Interface::new(Config::new(mac.into()), &mut port, Instant::now());
        interface.update_ip_addrs(|addresses| {
            let address = IpCidr::new(Ipv4Address::new(10, 0, 0, host).into(), 24);
            addresses.push(address).expect("room");
        });
        let routes = interface.routes_mut();
        let router = Ipv4Address::new(10, 0, 0, 1);
        routes.add_default_ipv4_route(router).expect("room");
        let buffer = || tcp::SocketBuffer::new(vec![0; 4096]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket
            .connect(interface.context(), to, 4000)
            .expect("a new socket");
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        Self {
            port,
            interface,
            sockets,
            handle,
        }
    }

    fn poll(&mut self) -> &mut tcp::Socket<'static> {
        self.interface
            .poll(Instant::now(), &mut self.port, &mut self.sockets);
        self.sockets.get_mut(self.handle)
    }
}

/// `passt`, which ends with its socket.
struct Passt(Child);

impl Passt {
    #[expect(
        clippy::disallowed_methods,
        reason = "it ends when its socket is closed, which this process holds"
    )]
    async fn start(switch: &Switch) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        fcntl_setfd(&theirs, FdFlags::empty()).expect("a descriptor");
        let options = PasstOptions {
            host_loopback: true,
        };
        let child = Command::new("passt")
            .args(uplink::passt_arguments(theirs.as_raw_fd(), options))
            .spawn()
            .expect("passt is installed");
        let settings = uplink::port_settings("passt");
        switch.connect(settings, ours).await.expect("running");
        Self(child)
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs passt, and a default route"]
async fn stations_with_the_same_port_reach_the_host_at_the_same_time() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("bound").port();
    // Echoes one line for each connection, when both are open.
    let server = std::thread::spawn(move || {
        let mut open = [0; 2].map(|_| listener.accept().expect("a connection").0);
        for connection in &mut open {
            let mut line = [0; 5];
            connection.read_exact(&mut line).expect("a line");
            connection.write_all(&line).expect("open");
        }
        open
    });
    let (bridge, uplink) = (
        Switch::start(1).expect("a switch"),
        Switch::start(1).expect("a switch"),
    );
    let mut passt = Passt::start(&uplink).await;
    let router = RouterTask::start();
    let settings = InterfaceSettings {
        mac: MacAddress::local(1),
        ipv4: Some((Ipv4Addr::new(10, 0, 0, 1), 24)),
        ipv6: None,
        mtu: 1500,
    };
    let source = |settings| PortSource::New(settings);
    let inside = router.add(&bridge, source(PortSettings::new("router")), settings);
    let inside = inside.await.expect("running");
    let outside = source(uplink::port_settings("router"));
    let outside = router.add_uplink(&uplink, outside, uplink::interface_settings(), uplink::HOPS);
    let outside = outside.await.expect("running");
    let join = router.with(move |router| router.join(inside, outside));
    join.await.expect("running");
    let to = (uplink::GATEWAY, port);
    let mut stations = [
        Station::connect(&bridge, 2, to).await,
        Station::connect(&bridge, 3, to).await,
    ];
    let (lines, mut received) = ([&b"two 2"[..], b"three"], [Vec::<u8>::new(), Vec::new()]);
    let mut is_sent = [false; 2];
    let echoes = async {
        while received.iter().any(|line| line.len() < 5) {
            for (n, station) in stations.iter_mut().enumerate() {
                let socket = station.poll();
                if socket.may_send() && !is_sent[n] {
                    is_sent[n] = socket.send_slice(lines[n]).expect("connected") == 5;
                }
                let mut bytes = [0; 16];
                if socket.can_recv() {
                    let count = socket.recv_slice(&mut bytes).expect("connected");
                    received[n].extend(&bytes[..count]);
                }
            }
            // smoltcp has to be polled.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let echoes = tokio::time::timeout(Duration::from_secs(30), echoes).await;
    echoes.expect("both lines within 30 s");
    assert_eq!(received, lines);
    server.join().expect("no panic");
    drop(uplink);
    assert!(passt.0.wait().expect("a child").success());
}
