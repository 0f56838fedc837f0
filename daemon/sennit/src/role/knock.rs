//! Packets that a client sends to ports of the server by its WANs, outside the tunnel, when the server asks whether the
//! Internet reaches it. Nothing is expected to answer.

use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tracing::debug;

use crate::netlink::Family;
use crate::udp::MARK;
use crate::wan::Uplink;

/// No more ports than this at a time.
const MOST: usize = 8;
/// Time for a second packet, if the first one is lost.
const PATIENCE: Duration = Duration::from_secs(3);

/// Begins connections by this WAN to these TCP ports of the server, and gives them up after a while.
pub(super) fn knock(uplink: &Uplink, servers: &[SocketAddr], ports: &[u16]) {
    let Some(server) = servers.iter().find(|server| uplink.has(Family::of(server.ip()))) else {
        return;
    };
    let begin = |port: u16| -> std::io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(*server), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.bind_device(Some(uplink.device.as_bytes()))?;
        socket.set_mark(MARK)?;
        match socket.connect(&SocketAddr::new(server.ip(), port).into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => Ok(socket),
        }
    };
    let mut begun = Vec::new();
    for port in ports.iter().take(MOST) {
        match begin(*port) {
            Ok(socket) => begun.push(socket),
            Err(error) => debug!(port, %error, "not knocked"),
        }
    }
    tokio::spawn(async move {
        tokio::time::sleep(PATIENCE).await;
        drop(begun);
    });
}
