//! A packet socket on one interface: frames come in through a ring that the kernel stamps, and go out in batches.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes of one slot of the ring: kernel header, addresses and one frame.
const SLOT: usize = 2048;
/// Slots of a ring: 300 ms at 300 Mbit/s, so that a short stall of the emulator loses nothing.
const SLOTS: usize = 8192;
const BLOCK: usize = 1 << 16;
/// Frames that one system call sends.
pub(crate) const SEND_BATCH: usize = 64;

/// A frame in the ring.
pub(crate) struct Received<'a> {
    /// When the kernel saw it: nanoseconds of the wall clock.
    pub(crate) wall_time: u64,
    /// Its length on the wire; more than `bytes` has if it did not fit.
    pub(crate) length: usize,
    /// Its bytes from the Ethernet header on.
    pub(crate) bytes: &'a [u8],
}

/// The socket with its ring.
pub(crate) struct PacketSocket {
    socket: OwnedFd,
    ring: NonNull<u8>,
    next: usize,
}

// SAFETY: the ring belongs to this value alone, and nothing in it is tied to a thread.
#[allow(unsafe_code)]
unsafe impl Send for PacketSocket {}

impl PacketSocket {
    /// Opens a socket on `interface` of this thread's network namespace; frames are taken from now on.
    #[allow(unsafe_code)]
    pub(crate) fn open(interface: &str) -> io::Result<Self> {
        let name = CString::new(interface).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: a terminated string.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if index == 0 {
            return Err(io::Error::last_os_error());
        }
        // Protocol 0: nothing is received until the ring stands and `bind` names one.
        // SAFETY: plain system call; the descriptor is owned at once.
        let socket = unsafe {
            let raw = libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
                0,
            );
            if raw < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(raw)
        };
        set(
            &socket,
            libc::PACKET_VERSION,
            &(libc::tpacket_versions::TPACKET_V2 as libc::c_int),
        )?;
        // Own frames need no queue discipline, and must not come back.
        set(&socket, libc::PACKET_QDISC_BYPASS, &1_i32)?;
        set(&socket, libc::PACKET_IGNORE_OUTGOING, &1_i32)?;
        let request = libc::tpacket_req {
            tp_block_size: BLOCK as u32,
            tp_block_nr: (SLOT * SLOTS / BLOCK) as u32,
            tp_frame_size: SLOT as u32,
            tp_frame_nr: SLOTS as u32,
        };
        set(&socket, libc::PACKET_RX_RING, &request)?;
        // SAFETY: the kernel picks the address; the length is that of the ring just asked for.
        let ring = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                SLOT * SLOTS,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                socket.as_raw_fd(),
                0,
            )
        };
        if ring == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let ring = NonNull::new(ring.cast()).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let opened = Self {
            socket,
            ring,
            next: 0,
        };
        // SAFETY: all-zero is a valid `sockaddr_ll`; the pointer is to a live value of the length given.
        let bound = unsafe {
            let mut address: libc::sockaddr_ll = std::mem::zeroed();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
            address.sll_ifindex = index as i32;
            libc::bind(
                opened.socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of_val(&address) as libc::socklen_t,
            )
        };
        if bound < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(opened)
    }

    /// Hands the next frame of the ring to `take` and frees its slot. False if there is none.
    #[allow(unsafe_code)]
    pub(crate) fn receive(&mut self, take: impl FnOnce(Received<'_>)) -> bool {
        // SAFETY: `next` is below SLOTS, so that the slot lies in the mapping; the kernel aligns it.
        let slot = unsafe { self.ring.add(self.next * SLOT) };
        // SAFETY: the status is the first field of the header, and both sides access it as one word.
        let status = unsafe { &*slot.cast::<AtomicU32>().as_ptr() };
        if status.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return false;
        }
        // SAFETY: with TP_STATUS_USER set the slot is ours, header and frame, until we give it back below.
        let (header, bytes) = unsafe {
            let header = slot.cast::<libc::tpacket2_hdr>().as_ref();
            let length = (header.tp_snaplen as usize).min(SLOT - usize::from(header.tp_mac));
            let start = slot.add(usize::from(header.tp_mac));
            (header, std::slice::from_raw_parts(start.as_ptr(), length))
        };
        take(Received {
            wall_time: u64::from(header.tp_sec) * 1_000_000_000 + u64::from(header.tp_nsec),
            length: header.tp_len as usize,
            bytes,
        });
        status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.next = (self.next + 1) % SLOTS;
        true
    }

    /// Sends up to [`SEND_BATCH`] frames; the number that the interface took.
    #[allow(unsafe_code)]
    pub(crate) fn send(&self, frames: &[&[u8]]) -> io::Result<usize> {
        let count = frames.len().min(SEND_BATCH);
        // SAFETY: all-zero is valid for both types: no address, no control data, no flags.
        let (mut pieces, mut messages): ([libc::iovec; SEND_BATCH], [libc::mmsghdr; SEND_BATCH]) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        for index in 0..count {
            pieces[index].iov_base = frames[index].as_ptr().cast_mut().cast();
            pieces[index].iov_len = frames[index].len();
            messages[index].msg_hdr.msg_iov = &raw mut pieces[index];
            messages[index].msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: `count` messages, each with one piece that points to a frame borrowed for this call; the
        // kernel only reads them.
        let sent = unsafe { libc::sendmmsg(self.socket.as_raw_fd(), messages.as_mut_ptr(), count as u32, 0) };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(sent as usize)
    }

    /// Frames that the kernel dropped since the last call because the ring was full.
    #[allow(unsafe_code)]
    pub(crate) fn dropped(&self) -> u64 {
        let mut statistics = libc::tpacket_stats {
            tp_packets: 0,
            tp_drops: 0,
        };
        let mut length = size_of_val(&statistics) as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes into a live value of that size.
        let outcome = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut statistics).cast(),
                &raw mut length,
            )
        };
        if outcome == 0 {
            u64::from(statistics.tp_drops)
        } else {
            0
        }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for PacketSocket {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: the mapping made in `open`, not used after this.
        unsafe { libc::munmap(self.ring.as_ptr().cast(), SLOT * SLOTS) };
    }
}

#[allow(unsafe_code)]
fn set<T>(socket: &OwnedFd, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes of a live value.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if outcome < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
