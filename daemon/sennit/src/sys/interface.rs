//! `ioctl` requests about network interfaces and the TUN device, and reads into memory that is not yet set.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use bytes::BytesMut;

/// Offloads of `TUNSETOFFLOAD`: what may enter a TUN device in pieces larger than its MTU.
pub(crate) mod offload {
    /// Checksums may be left to us.
    pub(crate) const CHECKSUM: u32 = libc::TUN_F_CSUM;
    /// TCP over IPv4 and IPv6 in pieces of up to 64 KiB.
    pub(crate) const TCP: u32 = libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
    /// UDP likewise (Linux 6.2).
    pub(crate) const UDP: u32 = libc::TUN_F_USO4 | libc::TUN_F_USO6;
}

/// An `ifreq` with the interface's name in it.
pub(super) fn request_for(name: &str) -> libc::ifreq {
    // SAFETY: `ifreq` is plain data of the C ABI, for which all zero bits are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // One byte less than there is room for, so that the final zero stays.
    for (target, byte) in request
        .ifr_name
        .iter_mut()
        .take(libc::IFNAMSIZ - 1)
        .zip(name.bytes())
    {
        *target = byte as libc::c_char;
    }
    request
}

/// Attaches an open `/dev/net/tun` to the interface `name`, which is made if it does not exist.
pub(crate) fn attach_tun(device: &File, name: &str, flags: libc::c_int) -> io::Result<()> {
    let mut request = request_for(name);
    // The kernel's field is 16 bits wide and the flags used are below 0x10000.
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes an `ifreq`, which `request` is.
    check(unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &mut request) })
}

/// Whether the interface outlives its last descriptor.
pub(crate) fn set_tun_persistent(device: BorrowedFd<'_>, persistent: bool) -> io::Result<()> {
    let value = libc::c_ulong::from(persistent);
    // SAFETY: TUNSETPERSIST takes a number by value.
    check(unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETPERSIST, value) })
}

/// Sets what may enter in large pieces.
pub(crate) fn set_tun_offload(device: BorrowedFd<'_>, offloads: u32) -> io::Result<()> {
    let value = libc::c_ulong::from(offloads);
    // SAFETY: TUNSETOFFLOAD takes a number by value.
    check(unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETOFFLOAD, value) })
}

/// Sets the length of the header before each packet, bytes.
pub(crate) fn set_tun_header_length(device: BorrowedFd<'_>, length: usize) -> io::Result<()> {
    let value = length as libc::c_int;
    // SAFETY: TUNSETVNETHDRSZ reads an `int`, which `value` is.
    check(unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETVNETHDRSZ, &value) })
}

/// One read into the free room of `buffer`, which must be empty; at most `room` bytes. The filled part becomes its
/// content.
pub(crate) fn read_into(descriptor: BorrowedFd<'_>, buffer: &mut BytesMut, room: usize) -> io::Result<usize> {
    debug_assert!(buffer.is_empty());
    let free = buffer.spare_capacity_mut();
    let room = room.min(free.len());
    let (filled, _) = rustix::io::read(descriptor.as_fd(), &mut free[..room])?;
    let length = filled.len();
    // SAFETY: the first `length` bytes were written by the kernel, and they lie within the capacity.
    unsafe { buffer.set_len(length) };
    Ok(length)
}

pub(super) fn check(outcome: libc::c_int) -> io::Result<()> {
    if outcome < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
