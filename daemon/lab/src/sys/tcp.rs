//! What the kernel knows about a TCP connection.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Figures of `TCP_INFO`, by their places in the kernel's interface (libc's own type ends before the last ones).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpInfo {
    /// Segments sent again.
    pub retransmits: u32,
    /// Segments with data sent, those sent again included.
    pub segments_out: u32,
    /// Segments sent again without need, as the receiver said (DSACK).
    pub spurious: u32,
    /// Segments that came out of order.
    pub out_of_order: u32,
    /// Smallest round trip in microseconds.
    pub min_rtt: u32,
}

/// Reads it.
#[allow(unsafe_code)]
pub(crate) fn info(socket: &impl AsFd) -> io::Result<TcpInfo> {
    let mut bytes = [0_u8; 256];
    let mut length = bytes.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into the array.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            bytes.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if outcome < 0 {
        return Err(io::Error::last_os_error());
    }
    let at = |offset: usize| {
        u32::from_ne_bytes([
            bytes[offset],
            bytes[offset + 1],
            bytes[offset + 2],
            bytes[offset + 3],
        ])
    };
    Ok(TcpInfo {
        retransmits: at(100),
        min_rtt: at(148),
        segments_out: at(156),
        spurious: at(216),
        out_of_order: at(224),
    })
}
