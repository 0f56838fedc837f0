//! Many datagrams per system call: `recvmmsg` and `sendmmsg` with the control messages of UDP segmentation, ECN and local
//! addresses.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};

use bytes::BytesMut;

/// Messages of one `recvmmsg`.
pub(crate) const RECEIVE_BATCH: usize = 16;
/// Messages of one `sendmmsg`.
pub(crate) const SEND_BATCH: usize = 16;

/// Room for the control messages of one message: address, ECN, segment size.
const CONTROL_WORDS: usize = 16;
type Control = [u64; CONTROL_WORDS];

/// The ECN bits by which a router says that it is congested.
const CONGESTION_EXPERIENCED: u8 = 3;

/// What is known of a received message: one datagram, or several of one size that the kernel joined.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meta {
    /// Who sent it.
    pub(crate) remote: SocketAddr,
    /// To which address of this machine it came.
    pub(crate) local: Option<IpAddr>,
    /// Bytes of each datagram in it (the last may be shorter).
    pub(crate) segment: usize,
    /// The network marked congestion on it.
    pub(crate) congested: bool,
}

/// A message to send: `segment` bytes each are a datagram.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) data: &'a [u8],
    pub(crate) segment: usize,
    pub(crate) remote: SocketAddr,
    /// From which of this machine's addresses.
    pub(crate) local: Option<IpAddr>,
}

/// Sets an option whose value is an `int`.
pub(crate) fn set_option(socket: BorrowedFd<'_>, level: i32, option: i32, value: i32) -> io::Result<()> {
    let value: libc::c_int = value;
    // SAFETY: the value is a live `int`, and its size is given.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    super::interface::check(outcome)
}

/// Receives up to [`RECEIVE_BATCH`] messages into the free room of the empty `buffers`, whose content they become, and
/// writes what is known of each to `metas`. Returns how many there were; never waits.
pub(crate) fn receive<'a>(
    socket: BorrowedFd<'_>,
    buffers: impl ExactSizeIterator<Item = &'a mut BytesMut>,
    metas: &mut [Option<Meta>; RECEIVE_BATCH],
) -> io::Result<usize> {
    let mut names = [const { MaybeUninit::<libc::sockaddr_storage>::uninit() }; RECEIVE_BATCH];
    let mut controls = [const { MaybeUninit::<Control>::uninit() }; RECEIVE_BATCH];
    let mut vectors = [const { MaybeUninit::<libc::iovec>::uninit() }; RECEIVE_BATCH];
    let mut targets: [Option<&mut BytesMut>; RECEIVE_BATCH] = [const { None }; RECEIVE_BATCH];
    // SAFETY: `mmsghdr` is plain data of the C ABI, for which all zero bits are valid.
    let mut messages: [libc::mmsghdr; RECEIVE_BATCH] = unsafe { std::mem::zeroed() };
    let mut prepared = 0;
    for (index, buffer) in buffers.take(RECEIVE_BATCH).enumerate() {
        let free = buffer.spare_capacity_mut();
        let vector = vectors[index].write(libc::iovec {
            iov_base: free.as_mut_ptr().cast(),
            iov_len: free.len(),
        });
        let header = &mut messages[index].msg_hdr;
        header.msg_iov = vector;
        header.msg_iovlen = 1;
        header.msg_name = names[index].as_mut_ptr().cast();
        header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        header.msg_control = controls[index].as_mut_ptr().cast();
        header.msg_controllen = size_of::<Control>() as _;
        targets[index] = Some(buffer);
        prepared = index + 1;
    }
    // SAFETY: every pointer in the first `prepared` messages leads to memory of the length beside it that lives until
    // the call returns.
    let count = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            messages.as_mut_ptr(),
            prepared as libc::c_uint,
            libc::MSG_DONTWAIT as _,
            std::ptr::null_mut(),
        )
    };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    for (index, message) in messages.iter().enumerate().take(count) {
        let length = message.msg_len as usize;
        if let Some(buffer) = &mut targets[index] {
            // SAFETY: the kernel wrote `length` bytes into the free room and never more than the room it was told.
            unsafe { buffer.set_len(length) };
        }
        // SAFETY: the kernel filled name and control buffer as far as the header says, and both are alive.
        metas[index] = unsafe { meta(&message.msg_hdr, length) };
    }
    Ok(count)
}

/// # Safety
/// `header` must be as `recvmmsg` left it, with its buffers alive.
unsafe fn meta(header: &libc::msghdr, length: usize) -> Option<Meta> {
    // SAFETY: the caller's promise.
    let remote = unsafe { read_name(header)? };
    let mut found = Meta {
        remote,
        local: None,
        segment: length,
        congested: false,
    };
    // SAFETY: the macros walk the control buffer within its length, and each value is copied out by its own type.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while let Some(control) = message.as_ref() {
            let data = libc::CMSG_DATA(control);
            match (control.cmsg_level, control.cmsg_type) {
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    let segment = data.cast::<libc::c_int>().read_unaligned();
                    found.segment = usize::try_from(segment).unwrap_or(0);
                }
                (libc::IPPROTO_IP, libc::IP_TOS) => {
                    found.congested = data.read() & 3 == CONGESTION_EXPERIENCED
                }
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                    let class = data.cast::<libc::c_int>().read_unaligned() as u8;
                    found.congested = class & 3 == CONGESTION_EXPERIENCED;
                }
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                    found.local = Some(IpAddr::from(info.ipi_addr.s_addr.to_ne_bytes()));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    found.local = Some(IpAddr::from(info.ipi6_addr.s6_addr).to_canonical());
                }
                _ => {}
            }
            message = libc::CMSG_NXTHDR(header, control);
        }
    }
    found.segment = found.segment.clamp(1, length.max(1));
    Some(found)
}

/// # Safety
/// `header.msg_name` must lead to a socket address that the kernel wrote.
unsafe fn read_name(header: &libc::msghdr) -> Option<SocketAddr> {
    let name = header.msg_name.cast::<libc::sockaddr_storage>();
    // SAFETY: the kernel writes at least the family of every received datagram's source.
    match libc::c_int::from(unsafe { (*name).ss_family }) {
        libc::AF_INET => {
            // SAFETY: the family says that this structure was written.
            let name = unsafe { &*name.cast::<libc::sockaddr_in>() };
            let address = IpAddr::from(name.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddr::new(address, u16::from_be(name.sin_port)))
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that this structure was written.
            let name = unsafe { &*name.cast::<libc::sockaddr_in6>() };
            let port = u16::from_be(name.sin6_port);
            Some(match IpAddr::from(name.sin6_addr.s6_addr).to_canonical() {
                IpAddr::V6(address) => SocketAddrV6::new(address, port, 0, name.sin6_scope_id).into(),
                address @ IpAddr::V4(_) => SocketAddr::new(address, port),
            })
        }
        _ => None,
    }
}

/// Sends up to [`SEND_BATCH`] messages and returns how many went; never waits. An error is that of the first message;
/// one that a later message meets is found by the next call. `mapped`: the socket is one of IPv6 that serves IPv4 too.
pub(crate) fn send(socket: BorrowedFd<'_>, outgoing: &[Outgoing<'_>], mapped: bool) -> io::Result<usize> {
    let mut names = [const { MaybeUninit::<socket2::SockAddr>::uninit() }; SEND_BATCH];
    let mut controls = [const { MaybeUninit::<Control>::uninit() }; SEND_BATCH];
    let mut vectors = [const { MaybeUninit::<libc::iovec>::uninit() }; SEND_BATCH];
    // SAFETY: `mmsghdr` is plain data of the C ABI, for which all zero bits are valid.
    let mut messages: [libc::mmsghdr; SEND_BATCH] = unsafe { std::mem::zeroed() };
    let count = outgoing.len().min(SEND_BATCH);
    for (index, message) in outgoing.iter().take(count).enumerate() {
        let name = names[index].write(socket_address(message.remote, mapped));
        let vector = vectors[index].write(libc::iovec {
            iov_base: message.data.as_ptr().cast_mut().cast(),
            iov_len: message.data.len(),
        });
        let header = &mut messages[index].msg_hdr;
        header.msg_iov = vector;
        header.msg_iovlen = 1;
        header.msg_name = name.as_ptr().cast_mut().cast();
        header.msg_namelen = name.len();
        let control = controls[index].write([0; CONTROL_WORDS]);
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = size_of::<Control>() as _;
        // SAFETY: the control buffer is as the function wants it.
        header.msg_controllen = unsafe { write_control(header, message) } as _;
    }
    // SAFETY: every pointer in the first `count` messages leads to memory of the length beside it that lives until the
    // call returns, and the kernel only reads it.
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            messages.as_mut_ptr(),
            count as libc::c_uint,
            (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

fn socket_address(remote: SocketAddr, mapped: bool) -> socket2::SockAddr {
    match remote {
        SocketAddr::V4(v4) if mapped => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()).into(),
        remote => remote.into(),
    }
}

/// Writes the control messages that `message` needs and returns their length.
///
/// # Safety
/// `header` must have a zeroed control buffer of `size_of::<Control>()` bytes, aligned for `cmsghdr`.
unsafe fn write_control(header: &libc::msghdr, message: &Outgoing<'_>) -> usize {
    let mut length = 0;
    // SAFETY: the caller's promise; both together take less than the buffer has, and CMSG_NXTHDR, which reads the
    // header that it returns, finds zeroes there.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(header);
        let mut put = |level, kind, value: &[u8]| {
            let Some(control) = next.as_mut() else { return };
            control.cmsg_level = level;
            control.cmsg_type = kind;
            control.cmsg_len = libc::CMSG_LEN(value.len() as u32) as _;
            std::ptr::copy_nonoverlapping(value.as_ptr(), libc::CMSG_DATA(control), value.len());
            length += libc::CMSG_SPACE(value.len() as u32) as usize;
            next = libc::CMSG_NXTHDR(header, control);
        };
        if message.data.len() > message.segment {
            put(
                libc::SOL_UDP,
                libc::UDP_SEGMENT,
                &(message.segment as u16).to_ne_bytes(),
            );
        }
        match message.local {
            // struct in_pktinfo: interface, source, destination (not used).
            Some(IpAddr::V4(local)) => {
                let mut info = [0; 12];
                info[4..8].copy_from_slice(&local.octets());
                put(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
            }
            // struct in6_pktinfo: source, interface.
            Some(IpAddr::V6(local)) => {
                let mut info = [0; 20];
                info[..16].copy_from_slice(&local.octets());
                put(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
            }
            None => {}
        }
    }
    length
}
