//! A bare shovel: TUN with segmentation offload, pieces sealed with AES-GCM, UDP in batches, and back; nothing else.
//!
//! The limit of a tunnel's shape on a machine, to measure tunnels by. It must never be used as a tunnel: its key is
//! known, nothing is repaired, ordered or authenticated beyond the piece.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustix::event::{PollFd, PollFlags, poll};

use crate::sys::tun;
use crate::{Error, Result};

/// Bytes of a packet in one piece.
const PIECE: usize = 1400;
/// Number of the piece (8), bytes from it to the packet's end (4).
const HEADER: usize = 12;
const TAG: usize = 16;
const SEGMENT: usize = HEADER + PIECE + TAG;
/// Segments of one send: the kernel takes 64, and less than 64 KiB.
const BATCH: usize = 65_000 / SEGMENT;
/// Pieces of a super-packet with the kernel's header.
const SLOTS: usize = ((1 << 16) + tun::HEADER).div_ceil(PIECE);

/// Packets that are taken from the device, and batches from the socket, before the other one has its turn.
const TURN: usize = 8;
/// Room for what has come of a packet: two batches, and the beginning of another.
const ARENA: usize = 4 << 16;

/// Runs one end: the one with a `peer` begins, the other one listens at `local` and learns it.
pub fn run(interface: &str, local: SocketAddr, peer: Option<SocketAddr>) -> Result<()> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        Error::environment(
            format!("the shovel failed to {what}: {error}"),
            "run it as root, with /dev/net/tun there",
        )
    };
    let device = tun::open(interface).map_err(|error| failed("open a TUN device", &error))?;
    rustix::io::ioctl_fionbio(&device, true).map_err(|error| failed("set up its device", &error))?;
    let socket = UdpSocket::bind(local).map_err(|error| failed("bind", &error))?;
    let room = socket2::SockRef::from(&socket);
    let sized = room
        .set_recv_buffer_size(8 << 20)
        .and_then(|()| room.set_send_buffer_size(8 << 20));
    sized.map_err(|error| failed("set up its socket", &error))?;
    let state = UdpSocketState::new(UdpSockRef::from(&socket))
        .map_err(|error| failed("set up its socket", &error))?;
    let key = UnboundKey::new(&AES_128_GCM, &[7; 16]).map_err(|error| failed("make a key", &error))?;
    let mut sender = Sender {
        key: LessSafeKey::new(key),
        sent: 0,
        slots: vec![0; SLOTS * SEGMENT],
    };
    let key = UnboundKey::new(&AES_128_GCM, &[7; 16]).map_err(|error| failed("make a key", &error))?;
    let mut receiver = Receiver {
        key: LessSafeKey::new(key),
        port: local.port(),
        arena: vec![0; ARENA],
        filled: 0,
        pieces: Vec::with_capacity(2 * SLOTS),
    };
    let mut peer = peer;
    loop {
        let mut files = [
            PollFd::new(&device, PollFlags::IN),
            PollFd::new(&socket, PollFlags::IN),
        ];
        poll(&mut files, None).map_err(|error| failed("wait", &error))?;
        let ready: [bool; 2] = [0, 1].map(|index: usize| files[index].revents().intersects(PollFlags::IN));
        if let Some(peer) = peer.filter(|_| ready[0]) {
            (0..TURN).all(|_| sender.send(&device, peer, &state, &socket));
        } else if ready[0] {
            // Nobody to send to yet: the packet is lost.
            let _ = (&device).read(&mut sender.slots);
        }
        if ready[1] {
            (0..TURN).all(|_| receiver.receive(&device, &mut peer, &state, &socket));
        }
    }
}

struct Sender {
    key: LessSafeKey,
    /// Pieces sent.
    sent: u64,
    /// Where a packet's pieces lie, each with room for its header before it and its tag behind it.
    slots: Vec<u8>,
}

impl Sender {
    /// Sends one packet from the device; false if there was none. The kernel itself lays its pieces apart.
    fn send(
        &mut self,
        mut device: &File,
        destination: SocketAddr,
        state: &UdpSocketState,
        socket: &UdpSocket,
    ) -> bool {
        let mut parts: Vec<IoSliceMut<'_>> = self
            .slots
            .chunks_mut(SEGMENT)
            .map(|slot| IoSliceMut::new(&mut slot[HEADER..HEADER + PIECE]))
            .collect();
        let Ok(length) = device.read_vectored(&mut parts) else {
            return false;
        };
        let mut left = length;
        for slot in self.slots.chunks_mut(SEGMENT).take(length.div_ceil(PIECE)) {
            let (header, rest) = slot.split_at_mut(HEADER);
            header[..8].copy_from_slice(&self.sent.to_be_bytes());
            header[8..].copy_from_slice(&(left as u32).to_be_bytes());
            let (body, tail) = rest.split_at_mut(left.min(PIECE));
            let nonce = nonce(destination.port(), self.sent);
            let Ok(tag) = self
                .key
                .seal_in_place_separate_tag(nonce, Aad::from(&*header), body)
            else {
                return true;
            };
            tail[..TAG].copy_from_slice(tag.as_ref());
            self.sent += 1;
            left -= body.len();
        }
        // All pieces but the last are full.
        let sealed = length + length.div_ceil(PIECE) * (HEADER + TAG);
        for contents in self.slots[..sealed].chunks(BATCH * SEGMENT) {
            let transmit = Transmit {
                destination,
                ecn: None,
                contents,
                segment_size: Some(SEGMENT),
                src_ip: None,
            };
            // A full socket drops, as a wire does.
            let _ = state.try_send(UdpSockRef::from(socket), &transmit);
        }
        true
    }
}

struct Receiver {
    key: LessSafeKey,
    /// Our own port, which is in the numbers of what is sent to us.
    port: u16,
    arena: Vec<u8>,
    filled: usize,
    /// Where the pieces of the packet that is coming lie.
    pieces: Vec<Range<usize>>,
}

impl Receiver {
    /// Opens one batch and writes the packets that it completes; false if there was none.
    fn receive(
        &mut self,
        mut device: &File,
        peer: &mut Option<SocketAddr>,
        state: &UdpSocketState,
        socket: &UdpSocket,
    ) -> bool {
        if self.filled + (1 << 16) > ARENA {
            self.forget();
        }
        let mut meta = [RecvMeta::default()];
        let room = &mut self.arena[self.filled..];
        let Ok(1) = state.recv(UdpSockRef::from(socket), &mut [IoSliceMut::new(room)], &mut meta) else {
            return false;
        };
        peer.get_or_insert(meta[0].addr);
        let (end, stride) = (self.filled + meta[0].len, meta[0].stride.max(1));
        let mut start = self.filled;
        self.filled = end;
        while start < end {
            let stop = (start + stride).min(end);
            let (datagram, place) = (&mut self.arena[start..stop], start + HEADER);
            start = stop;
            let Some((header, body)) = datagram.split_at_mut_checked(HEADER) else {
                continue;
            };
            let (Some(number), Some(left)) = (header.first_chunk::<8>(), header[8..].first_chunk::<4>())
            else {
                continue;
            };
            let (number, left) = (u64::from_be_bytes(*number), u32::from_be_bytes(*left) as usize);
            let Ok(piece) = self
                .key
                .open_in_place(nonce(self.port, number), Aad::from(&*header), body)
            else {
                continue;
            };
            self.pieces.push(place..place + piece.len());
            if left == piece.len() {
                let parts: Vec<IoSlice<'_>> = self
                    .pieces
                    .iter()
                    .map(|piece| IoSlice::new(&self.arena[piece.clone()]))
                    .collect();
                // A packet of which a piece was lost is refused by the kernel; TCP sends it again.
                let _ = device.write_vectored(&parts);
                self.pieces.clear();
            }
        }
        if self.pieces.is_empty() {
            self.filled = 0;
        }
        true
    }

    fn forget(&mut self) {
        self.pieces.clear();
        self.filled = 0;
    }
}

/// Both ends share a key: the receiver's port tells their numbers apart.
fn nonce(receiver: u16, number: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[2..4].copy_from_slice(&receiver.to_be_bytes());
    bytes[4..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}
