//! Initiations of strangers: right in everything that the server's public key allows, made with keys that it does not
//! know; from a real address, and from addresses that nobody has.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use sennit_engine::handshake::{PrivateKey, PublicKey};
use sennit_engine::ids::{NetworkPath, SocketId, WanId};
use sennit_engine::settings::{Encryption, Mode, WanSettings};
use sennit_engine::time::Instant;
use sennit_engine::{Client, ClientConfig};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{PORT, inner, random};
use crate::sys::clock;
use crate::time::Nanos;
use crate::topology::{SERVER, Topology, wan_interface};
use crate::traffic::{Running, Window};
use crate::{Error, Result};

/// Different initiations; after that the first comes again.
const DIFFERENT: usize = 5000;
/// They leave in groups of what is due.
const TICK: Nanos = Nanos(1_000_000);

/// Calm, attacked from one real address, attacked from spoofed ones: a third each.
pub(super) fn phases(window: Window) -> [Window; 3] {
    let third = Nanos(window.end.since(window.start).0 / 3);
    let at = |number: u64| window.start + Nanos(third.0 * number);
    [0, 1, 2].map(|number| Window {
        start: at(number),
        end: at(number + 1),
    })
}

/// Makes the initiations, and sends them when it is time. Returns how many were sent.
pub(super) fn start(
    topology: &Topology,
    server_key: PublicKey,
    per_second: u32,
    window: Window,
) -> Result<Running<u64>> {
    // Answers to addresses that nobody has leave the server, and end at the client's host.
    topology.server.ip("route add 198.18.0.0/15 via 10.71.0.2")?;
    topology.client.ip("route add blackhole 198.18.0.0/15")?;
    Running::start(&topology.client, move || {
        let initiations: Result<Vec<Vec<u8>>> = (0..DIFFERENT).map(|_| initiation(server_key)).collect();
        let initiations = initiations?;
        let real = real_socket()?;
        let raw = raw_socket()?;
        let [_, from_one, from_many] = phases(window);
        let mut sent = pace(from_one, per_second, |number| {
            let datagram = &initiations[number as usize % DIFFERENT];
            // A full buffer sends fewer; how many is reported.
            real.send(datagram).is_ok()
        });
        sent += pace(from_many, per_second, |number| {
            let datagram = &initiations[number as usize % DIFFERENT];
            let [_, a, b, c] = (number.wrapping_mul(2_654_435_761) as u32).to_be_bytes();
            let from = Ipv4Addr::new(198, 18 + (a & 1), b, c);
            let packet = inner::datagram(from, SERVER, (1024 + (number % 60_000) as u16, PORT), datagram);
            let to = SockAddr::from(SocketAddrV4::new(SERVER, 0));
            raw.send_to(&packet, &to).is_ok()
        });
        Ok(sent)
    })
}

/// Calls `send` as often as is due until the window ends, and counts what it did.
fn pace(window: Window, per_second: u32, mut send: impl FnMut(u64) -> bool) -> u64 {
    clock::sleep_until(window.start);
    let (mut number, mut sent) = (0, 0);
    while clock::now() < window.end {
        let due = (clock::now().since(window.start).secs() * f64::from(per_second)) as u64;
        while number < due {
            sent += u64::from(send(number));
            number += 1;
        }
        clock::sleep_until(clock::now() + TICK);
    }
    sent
}

/// The first datagram of a client whose key the server does not know.
fn initiation(server_key: PublicKey) -> Result<Vec<u8>> {
    let config = ClientConfig {
        private_key: PrivateKey::from_bytes(&random()?),
        server_key,
        preshared_key: None,
        mode: Mode::Speed,
        aes_is_fast: true,
        encryption: Encryption::On,
    };
    let now = Instant::from_nanos(clock::now().0);
    let network = NetworkPath {
        socket: SocketId(0),
        local: None,
        remote: SocketAddr::new(SERVER.into(), PORT),
    };
    let mut client = Client::new(config, now, random()?);
    client.set_wan(now, WanId(0), network, WanSettings::default());
    client.handle_timeout(now);
    let mut datagram = Vec::new();
    client
        .poll_transmit(now, &mut datagram, 1)
        .map(|_| datagram)
        .ok_or_else(|| Error::environment("a client sent no initiation", "this is a bug of the lab"))
}

fn real_socket() -> Result<UdpSocket> {
    let open = || {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.bind_device(Some(wan_interface(0).as_bytes()))?;
        socket.connect(&SockAddr::from(SocketAddrV4::new(SERVER, PORT)))?;
        socket.set_write_timeout(Some(Duration::from_millis(1)))?;
        Ok(UdpSocket::from(socket))
    };
    open().map_err(|error: std::io::Error| failed(&error))
}

/// A socket that takes whole IP packets, whoever they say that they are from.
fn raw_socket() -> Result<Socket> {
    const RAW: i32 = 255;
    let open = || {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(RAW)))?;
        socket.bind_device(Some(wan_interface(0).as_bytes()))?;
        socket.set_write_timeout(Some(Duration::from_millis(1)))?;
        Ok(socket)
    };
    open().map_err(|error: std::io::Error| failed(&error))
}

fn failed(error: &std::io::Error) -> Error {
    Error::environment(
        format!("failed to open a socket for hostile initiations: {error}"),
        "",
    )
}
