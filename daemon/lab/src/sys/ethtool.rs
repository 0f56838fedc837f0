//! Turns segmentation and checksum offloads of an interface off, by the ioctls behind `ethtool -K`.

use std::io;
use std::os::fd::AsRawFd;

const ETHTOOL_SET_RX_CHECKSUM: u32 = 0x15;
const ETHTOOL_SET_TX_CHECKSUM: u32 = 0x17;
const ETHTOOL_SET_SCATTER_GATHER: u32 = 0x19;
const ETHTOOL_SET_TSO: u32 = 0x1f;
const ETHTOOL_SET_GSO: u32 = 0x24;
const ETHTOOL_SET_GRO: u32 = 0x2c;

#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// Turns off everything that lets a frame be larger than the wire's, or go out without its checksum. Works on
/// the interface of that name in this thread's network namespace.
pub(crate) fn no_offloads(interface: &str) -> io::Result<()> {
    for command in [
        ETHTOOL_SET_TSO,
        ETHTOOL_SET_GSO,
        ETHTOOL_SET_GRO,
        ETHTOOL_SET_SCATTER_GATHER,
        ETHTOOL_SET_TX_CHECKSUM,
    ] {
        set(interface, command, 0)?;
    }
    // Some drivers have no such switch; a received checksum that is verified once more does no harm.
    let _ = set(interface, ETHTOOL_SET_RX_CHECKSUM, 0);
    Ok(())
}

#[allow(unsafe_code)]
fn set(interface: &str, command: u32, data: u32) -> io::Result<()> {
    let socket =
        std::net::UdpSocket::bind("127.0.0.1:0").or_else(|_| std::net::UdpSocket::bind("0.0.0.0:0"))?;
    let mut value = EthtoolValue { command, data };
    // SAFETY: all-zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if interface.len() >= request.ifr_name.len() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the request is a terminated name and a pointer to the value that these commands read; both live
    // until the call returns.
    let outcome = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    if outcome < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
