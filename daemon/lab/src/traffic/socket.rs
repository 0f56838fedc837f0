//! Sockets as the lab's traffic needs them: bound to a device, with a congestion control that is checked.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::sys::clock;
use crate::time::Nanos;
use crate::{Error, Result};

/// How the far end is reached: over a contestant's tunnel, or over one WAN directly.
#[derive(Clone, Debug)]
pub struct Reach {
    /// What results are called.
    pub name: String,
    /// The far end's address.
    pub target: IpAddr,
    /// The only interface that packets may leave by.
    pub device: Option<String>,
    /// TCP flows use all interfaces at once (MPTCP). Datagrams cannot.
    pub multipath: bool,
    /// TCP flows go to this port only, and datagrams nowhere.
    pub port: Option<u16>,
    /// What has come over it so far.
    pub progress: Arc<Progress>,
}

impl Reach {
    /// A way to `target` without anything sent over it yet.
    pub fn new(name: impl Into<String>, target: IpAddr, device: Option<String>) -> Self {
        Self {
            name: name.into(),
            target,
            device,
            multipath: false,
            port: None,
            progress: Arc::default(),
        }
    }

    /// Whether more than TCP goes over it.
    pub fn takes_datagrams(&self) -> bool {
        !self.multipath && self.port.is_none()
    }
}

/// What has come so far, for who watches.
#[derive(Debug, Default)]
pub struct Progress {
    /// Payload of bulk transfers, in bytes.
    pub received: AtomicU64,
    /// The last round trip of a probe in nanoseconds; 0 before the first.
    pub round_trip: AtomicU64,
}

/// How often blocking calls look at the clock.
const GLANCE: Duration = Duration::from_millis(50);

pub(super) fn failed(what: &str, error: &io::Error) -> Error {
    Error::environment(format!("failed to {what}: {error}"), "")
}

/// A listener on a port of this host's address, for connections over `reach`: any free one, if it leaves the choice.
pub(super) fn listen(reach: &Reach, congestion: &str) -> Result<TcpListener> {
    let open = || {
        let address = SocketAddr::new(reach.target, reach.port.unwrap_or(0));
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(transport(reach)))?;
        socket.bind(&SockAddr::from(address))?;
        Ok(socket)
    };
    let socket = open().map_err(|error| failed("open a listening socket", &error))?;
    choose(&socket, congestion)?;
    socket.listen(1024).map_err(|error| failed("listen", &error))?;
    socket
        .set_nonblocking(true)
        .map_err(|error| failed("listen", &error))?;
    Ok(socket.into())
}

/// The next connection, or none by the deadline.
pub(super) fn accept(listener: &TcpListener, deadline: Nanos) -> Result<Option<TcpStream>> {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream
                    .set_nonblocking(false)
                    .and_then(|()| impatient(&stream))
                    .map_err(|error| failed("take a connection", &error))?;
                return Ok(Some(stream));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if clock::now() >= deadline {
                    return Ok(None);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(failed("take a connection", &error)),
        }
    }
}

/// A connection over `reach`.
pub(super) fn connect(reach: &Reach, port: u16, congestion: &str, limit: Duration) -> Result<TcpStream> {
    let address = SocketAddr::new(reach.target, port);
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(transport(reach)))?;
        bind_device(&socket, reach)?;
        Ok(socket)
    };
    let socket = open().map_err(|error| failed("open a socket", &error))?;
    choose(&socket, congestion)?;
    socket
        .connect_timeout(&SockAddr::from(address), limit)
        .map_err(|error| failed(&format!("connect to {address} over {}", reach.name), &error))?;
    let stream: TcpStream = socket.into();
    impatient(&stream).map_err(|error| failed("set up a connection", &error))?;
    Ok(stream)
}

/// A UDP socket, connected over `reach`.
pub(super) fn datagrams(reach: &Reach, port: u16) -> Result<UdpSocket> {
    let address = SocketAddr::new(reach.target, port);
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        bind_device(&socket, reach)?;
        socket.connect(&SockAddr::from(address))?;
        roomy(&socket)?;
        Ok(socket)
    };
    let socket = open().map_err(|error| failed("open a UDP socket", &error))?;
    Ok(socket.into())
}

/// A UDP socket that leaves over `reach`, connected to nobody.
pub(super) fn unconnected(reach: &Reach) -> Result<UdpSocket> {
    let open = || {
        let socket = Socket::new(
            Domain::for_address(SocketAddr::new(reach.target, 0)),
            Type::DGRAM,
            Some(Protocol::UDP),
        )?;
        bind_device(&socket, reach)?;
        let any: IpAddr = match reach.target {
            IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        socket.bind(&SockAddr::from(SocketAddr::new(any, 0)))?;
        roomy(&socket)?;
        Ok(socket)
    };
    let socket = open().map_err(|error| failed("open a UDP socket", &error))?;
    Ok(socket.into())
}

/// A UDP socket on a free port of this host's address `target`: answers come from where questions went to.
pub(super) fn answering(target: IpAddr) -> Result<UdpSocket> {
    answering_at(SocketAddr::new(target, 0))
}

/// A UDP socket at that address of this host.
pub(crate) fn answering_at(address: SocketAddr) -> Result<UdpSocket> {
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.bind(&SockAddr::from(address))?;
        roomy(&socket)?;
        Ok(socket)
    };
    let socket = open().map_err(|error| failed("open a UDP socket", &error))?;
    Ok(socket.into())
}

/// The congestion control that a connection really runs.
pub(super) fn congestion(stream: &TcpStream) -> String {
    let name = socket2::SockRef::from(stream)
        .tcp_congestion()
        .unwrap_or_default();
    String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned()
}

/// Whether a read or write only ended to look at the clock.
pub(super) fn is_glance(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

fn transport(reach: &Reach) -> Protocol {
    if reach.multipath {
        Protocol::MPTCP
    } else {
        Protocol::TCP
    }
}

fn choose(socket: &Socket, congestion: &str) -> Result<()> {
    socket.set_tcp_congestion(congestion.as_bytes()).map_err(|error| {
        Error::environment(
            format!("failed to use the congestion control {congestion}: {error}"),
            format!("modprobe tcp_{congestion}"),
        )
    })
}

fn bind_device(socket: &Socket, reach: &Reach) -> io::Result<()> {
    match &reach.device {
        Some(device) => socket.bind_device(Some(device.as_bytes())),
        None => Ok(()),
    }
}

fn impatient(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(GLANCE))?;
    stream.set_write_timeout(Some(GLANCE))
}

fn roomy(socket: &Socket) -> io::Result<()> {
    socket.set_recv_buffer_size(4 << 20)?;
    socket.set_send_buffer_size(1 << 20)?;
    socket.set_read_timeout(Some(GLANCE))
}
