//! UDP sockets that carry the tunnel: bound to a WAN's device on a client, to an address on a server.
//!
//! An own module instead of quinn-udp: that sends one message per system call, while a sender over several paths has
//! several batches at hand at once, and it reads into plain slices, while received batches here are handed on in the
//! pooled memory that they were read into. The system calls themselves are in `sys::datagrams`.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use bytes::BytesMut;
use rustix::net::sockopt;
use sennit_engine::buffer::Pool;
use socket2::{Domain, Protocol, Socket, Type};

use crate::sys::datagrams::{self, RECEIVE_BATCH, set_option};
pub(crate) use crate::sys::datagrams::{Meta, Outgoing, SEND_BATCH};

/// The most that one message can have, bytes: what the kernel joins at most.
const MESSAGE: usize = 65536;

/// Kernel memory for datagrams that wait, bytes: 4 MB are 30 ms at 1 Gbit/s.
const KERNEL_BUFFER: usize = 4 << 20;

/// ECT(0): a congested router may mark our datagrams instead of dropping them.
const ECN_CAPABLE: u8 = 2;

/// Marks the tunnel's own datagrams, so that routing rules send them out of a WAN and not into the tunnel.
pub const MARK: u32 = 0x7300;

/// A UDP socket of the tunnel.
#[derive(Debug)]
pub struct UdpSocket {
    socket: Socket,
    /// IPv6 that serves IPv4 as well.
    mapped: bool,
    /// Whether the kernel cuts large messages into datagrams here; learnt by trying.
    segmentation: Cell<bool>,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The kernel has it.
    Whole,
    /// The kernel had no room for all of it: the rest is lost.
    NoRoom,
    /// It is larger than the link allows: it is lost.
    TooLarge,
    /// The WAN cannot send.
    Unreachable,
}

impl UdpSocket {
    /// A socket that sends and receives by one device only, from any port. Needs CAP_NET_RAW.
    pub fn on_device(device: &str, ipv6: bool) -> io::Result<Self> {
        let any: std::net::IpAddr = if ipv6 { [0u16; 8].into() } else { [0; 4].into() };
        Self::open(SocketAddr::new(any, 0), Some(device))
    }

    /// A socket at an address of this machine. The unspecified IPv6 address serves IPv4 too.
    pub fn listening(local: SocketAddr) -> io::Result<Self> {
        Self::open(local, None)
    }

    fn open(local: SocketAddr, device: Option<&str>) -> io::Result<Self> {
        let mapped = device.is_none() && local.is_ipv6() && local.ip().is_unspecified();
        let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        socket.set_mark(MARK)?;
        if local.is_ipv6() {
            socket.set_only_v6(!mapped)?;
            // PROBE alone lets the kernel fragment IPv6 where it knows of a smaller MTU.
            set_option(
                socket.as_fd(),
                libc::IPPROTO_IPV6,
                libc::IPV6_MTU_DISCOVER,
                libc::IPV6_PMTUDISC_PROBE,
            )?;
            set_option(socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, 1)?;
            sockopt::set_ipv6_recvtclass(&socket, true)?;
            sockopt::set_ipv6_tclass(&socket, ECN_CAPABLE.into())?;
            set_option(
                socket.as_fd(),
                libc::IPPROTO_IPV6,
                libc::IPV6_RECVPKTINFO,
                device.is_none().into(),
            )?;
        }
        if local.is_ipv4() || mapped {
            set_option(
                socket.as_fd(),
                libc::IPPROTO_IP,
                libc::IP_MTU_DISCOVER,
                libc::IP_PMTUDISC_PROBE,
            )?;
            sockopt::set_ip_recvtos(&socket, true)?;
            sockopt::set_ip_tos(&socket, ECN_CAPABLE)?;
        }
        if local.is_ipv4() {
            set_option(
                socket.as_fd(),
                libc::IPPROTO_IP,
                libc::IP_PKTINFO,
                device.is_none().into(),
            )?;
        }
        // It only makes it faster; old kernels lack it.
        let _ = set_option(socket.as_fd(), libc::SOL_UDP, libc::UDP_GRO, 1);
        // FORCE needs CAP_NET_ADMIN; without it the administrator's limit holds.
        if sockopt::set_socket_recv_buffer_size_force(&socket, KERNEL_BUFFER).is_err() {
            socket.set_recv_buffer_size(KERNEL_BUFFER)?;
        }
        if sockopt::set_socket_send_buffer_size_force(&socket, KERNEL_BUFFER).is_err() {
            socket.set_send_buffer_size(KERNEL_BUFFER)?;
        }
        if let Some(device) = device {
            socket.bind_device(Some(device.as_bytes()))?;
        }
        socket.bind(&local.into())?;
        Ok(Self {
            socket,
            mapped,
            segmentation: Cell::new(true),
        })
    }

    /// The address that the socket is bound to.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket
            .local_addr()?
            .as_socket()
            .ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// Whether it can send to this address.
    pub fn reaches(&self, remote: SocketAddr) -> bool {
        let ipv6 = self.socket.domain().is_ok_and(|domain| domain == Domain::IPV6);
        self.mapped || remote.is_ipv6() == ipv6
    }

    /// Sends messages in order and calls `lost` with the number of each that did not go whole. Never waits.
    pub(crate) fn send(&self, messages: &[Outgoing<'_>], mut lost: impl FnMut(usize, Sent)) {
        let mut next = 0;
        while next < messages.len() {
            if !self.segmentation.get() && messages[next].data.len() > messages[next].segment {
                let outcome = self.send_apart(&messages[next]);
                if outcome != Sent::Whole {
                    lost(next, outcome);
                }
                next += 1;
                continue;
            }
            match datagrams::send(self.socket.as_fd(), &messages[next..], self.mapped) {
                Ok(sent) => next += sent.max(1),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let outcome = self.after_error(&messages[next], &error);
                    if outcome != Sent::Whole {
                        lost(next, outcome);
                    }
                    next += 1;
                }
            }
        }
    }

    /// The kernel refused a message: tries it again in another way, or says why it is lost.
    fn after_error(&self, message: &Outgoing<'_>, error: &io::Error) -> Sent {
        let several = message.data.len() > message.segment;
        match (error.raw_os_error(), several) {
            // EIO: the device cannot make checksums, without which the kernel does not cut. EINVAL: the kernel cannot
            // cut at all, or a segment is larger than the MTU, as EMSGSIZE says in newer ones. Each alone tells which.
            (Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE), true) => {
                let outcome = self.send_apart(message);
                if outcome == Sent::Whole {
                    self.segmentation.set(false);
                }
                outcome
            }
            _ => refusal(error),
        }
    }

    /// Sends each datagram of a message by itself.
    fn send_apart(&self, message: &Outgoing<'_>) -> Sent {
        let mut rest = message.data;
        while !rest.is_empty() {
            let mut batch = [Outgoing {
                data: &[],
                ..*message
            }; SEND_BATCH];
            let mut count = 0;
            let mut ahead = rest;
            while count < SEND_BATCH && !ahead.is_empty() {
                let (data, behind) = ahead.split_at(message.segment.min(ahead.len()));
                batch[count].data = data;
                ahead = behind;
                count += 1;
            }
            match datagrams::send(self.socket.as_fd(), &batch[..count], self.mapped) {
                Ok(sent) => {
                    let bytes = (sent * message.segment).min(rest.len());
                    rest = &rest[bytes..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return refusal(&error),
            }
        }
        Sent::Whole
    }
}

fn refusal(error: &io::Error) -> Sent {
    match error.raw_os_error() {
        Some(libc::EMSGSIZE) => Sent::TooLarge,
        Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => Sent::NoRoom,
        _ => Sent::Unreachable,
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Receives batches into pooled memory. One serves any number of sockets.
#[derive(Debug, Default)]
pub(crate) struct Receiver {
    /// One pool for each message of a batch: each reads into a room of its own.
    pools: [Pool; RECEIVE_BATCH],
}

impl Receiver {
    /// Receives one batch and calls `each` with every message. Returns whether nothing more waits; an error of kind
    /// [`io::ErrorKind::WouldBlock`] says that there was none.
    pub(crate) fn receive(
        &mut self,
        socket: &UdpSocket,
        mut each: impl FnMut(Meta, BytesMut),
    ) -> io::Result<bool> {
        let mut metas = [None; RECEIVE_BATCH];
        let mut rooms = self.pools.each_mut().map(|pool| pool.room(MESSAGE));
        let count = datagrams::receive(
            socket.as_fd(),
            rooms.iter_mut().map(|room| &mut **room),
            &mut metas,
        )?;
        for (room, meta) in rooms.into_iter().zip(metas).take(count) {
            let data = room.split();
            if let Some(meta) = meta {
                each(meta, data);
            }
        }
        Ok(count < RECEIVE_BATCH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};

    /// Sockets on loopback; the mark needs root.
    fn pair(local: &str) -> Option<(UdpSocket, UdpSocket, SocketAddr)> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let sender = UdpSocket::listening(local.parse().unwrap()).unwrap();
        let receiver = UdpSocket::listening(local.parse().unwrap()).unwrap();
        let to = receiver.local_address().unwrap();
        Some((sender, receiver, to))
    }

    /// Receives until this many bytes are there; datagrams with what is known of their messages.
    fn receive(socket: &UdpSocket, bytes: usize) -> Vec<(Meta, BytesMut)> {
        let mut receiver = Receiver::default();
        let mut found = Vec::new();
        let mut total = 0;
        while total < bytes {
            poll(&mut [PollFd::new(socket, PollFlags::IN)], None).unwrap();
            let outcome = receiver.receive(socket, |meta, data| {
                total += data.len();
                found.push((meta, data));
            });
            assert!(outcome.is_ok(), "{outcome:?}");
        }
        found
    }

    fn send(
        socket: &UdpSocket,
        data: &[u8],
        segment: usize,
        remote: SocketAddr,
        local: Option<std::net::IpAddr>,
    ) {
        let message = Outgoing {
            data,
            segment,
            remote,
            local,
        };
        socket.send(&[message], |_, sent| panic!("{sent:?}"));
    }

    #[test]
    fn a_message_of_many_datagrams_goes_by_one_call_and_comes_back_whole() {
        let Some((sender, receiver, to)) = pair("127.0.0.1:0") else {
            return;
        };
        let data: Vec<u8> = (0..44 * 1400 + 77).map(|index| (index % 251) as u8).collect();
        send(&sender, &data, 1400, to, None);
        let found = receive(&receiver, data.len());
        assert!(found.len() < 45, "the kernel joined nothing");
        let mut joined = Vec::new();
        for (meta, part) in &found {
            assert_eq!(
                (meta.segment == 1400, meta.congested),
                (part.len() >= 1400, false)
            );
            assert_eq!(meta.local, Some(to.ip()));
            joined.extend_from_slice(part);
        }
        assert_eq!(joined, data);
    }

    #[test]
    fn where_the_kernel_does_not_cut_each_datagram_goes_by_itself() {
        let Some((sender, receiver, to)) = pair("127.0.0.1:0") else {
            return;
        };
        sender.segmentation.set(false);
        let data = vec![7; 40 * 100];
        send(&sender, &data, 100, to, None);
        let found = receive(&receiver, data.len());
        assert!(found.iter().all(|(meta, _)| meta.segment == 100));
    }

    #[test]
    fn one_socket_serves_both_ip_versions_and_answers_from_the_address_that_was_asked() {
        let Some((asker, _, _)) = pair("127.0.0.1:0") else {
            return;
        };
        let server = UdpSocket::listening("[::]:0".parse().unwrap()).unwrap();
        let port = server.local_address().unwrap().port();
        let asked: SocketAddr = format!("127.0.0.77:{port}").parse().unwrap();
        send(&asker, b"question", 8, asked, None);
        let (meta, _) = receive(&server, 8).remove(0);
        assert_eq!(meta.local, Some(asked.ip()));
        assert_eq!(meta.remote, asker.local_address().unwrap());
        send(&server, b"answer", 6, meta.remote, meta.local);
        let (meta, _) = receive(&asker, 6).remove(0);
        assert_eq!(meta.remote, asked);
    }

    #[test]
    fn what_does_not_fit_the_link_is_told() {
        let Some((sender, _, to)) = pair("127.0.0.1:0") else {
            return;
        };
        let mut outcomes = Vec::new();
        let large = vec![0; 65_508];
        let message = |data| Outgoing {
            data,
            segment: 70_000,
            remote: to,
            local: None,
        };
        sender.send(&[message(&large[..]), message(&large[..9])], |index, sent| {
            outcomes.push((index, sent))
        });
        assert_eq!(outcomes, [(0, Sent::TooLarge)]);
    }
}
