//! The sockets: one that asks and waits for the answer, one that hears of changes.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};
use tokio::io::unix::AsyncFd;

use super::codec::{NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTERRUPTED, Reply, Request, replies};

/// As iproute2: the kernel fills at most 32 KiB per read of a dump.
const READ: usize = 64 * 1024;

/// The kernel answers at once; this only keeps a fault from stopping the program for ever.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often a dump that was interrupted by a change is begun anew.
const ATTEMPTS: usize = 10;

/// Asks the kernel and waits for its answer.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// A socket in the network namespace of the calling thread.
    pub fn open() -> io::Result<Self> {
        let socket = open(SocketFlags::CLOEXEC, 0)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: vec![0; READ],
        })
    }

    /// Sends a change and waits for the kernel's word on it.
    pub(super) fn change(
        &mut self,
        kind: u16,
        flags: u16,
        build: impl Fn(u16, u16) -> Request,
    ) -> io::Result<()> {
        self.exchange(build(kind, flags | NLM_F_ACK), &mut |_| {})
    }

    /// Asks for all of a kind, and calls `each` with every entry.
    pub(super) fn dump(
        &mut self,
        kind: u16,
        fixed: &[u8],
        mut each: impl FnMut(Reply<'_>),
    ) -> io::Result<()> {
        self.exchange(Request::new(kind, NLM_F_DUMP, fixed), &mut each)
    }

    fn exchange(&mut self, request: Request, each: &mut dyn FnMut(Reply<'_>)) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        send(&self.socket, &request.finish(self.sequence), SendFlags::empty())?;
        loop {
            let (length, _) = recv(&self.socket, &mut self.buffer[..], RecvFlags::empty())?;
            for reply in replies(&self.buffer[..length]) {
                if reply.sequence != self.sequence {
                    continue;
                }
                if reply.flags & NLM_F_DUMP_INTERRUPTED != 0 {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                match reply.error() {
                    None => each(reply),
                    Some(0) => return Ok(()),
                    Some(error) => return Err(io::Error::from_raw_os_error(error)),
                }
            }
        }
    }
}

/// Calls `read` until no change came between its parts.
pub(super) fn until_consistent<T>(mut read: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..ATTEMPTS {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
    read()
}

/// Hears that links, addresses or routes have changed.
#[derive(Debug)]
pub struct Watch {
    socket: AsyncFd<OwnedFd>,
}

impl Watch {
    /// Listens from now on, in the network namespace of the calling thread. Needs a tokio runtime.
    pub fn open() -> io::Result<Self> {
        let groups = libc::RTMGRP_LINK
            | libc::RTMGRP_IPV4_IFADDR
            | libc::RTMGRP_IPV4_ROUTE
            | libc::RTMGRP_IPV6_IFADDR
            | libc::RTMGRP_IPV6_ROUTE;
        let socket = open(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, groups as u32)?;
        Ok(Self {
            socket: crate::sys::watch(socket)?,
        })
    }

    /// Waits until something has changed. What it was is not told: the caller takes a new inventory, which is right
    /// after a lost message (ENOBUFS) too. Cancelling loses nothing.
    pub async fn changed(&self) -> io::Result<()> {
        let mut ready = self.socket.readable().await?;
        let mut buffer = [0; 8192];
        loop {
            match recv(self.socket.get_ref().as_fd(), &mut buffer, RecvFlags::empty()) {
                Ok(_) | Err(rustix::io::Errno::NOBUFS | rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    ready.clear_ready();
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn open(flags: SocketFlags, groups: u32) -> io::Result<OwnedFd> {
    // No protocol is NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}
