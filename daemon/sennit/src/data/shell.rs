//! The loop of the data path: wait, drain the sockets, drain the TUN device, judge timers, send.
//!
//! Timers are judged only when nothing waits in a socket: what has arrived must not be taken for silence.

use std::io::{self, IoSlice};
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver as CommandReceiver, TryRecvError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sennit_engine::buffer::Pool;
use sennit_engine::ids::{NetworkPath, SocketId};
use sennit_engine::inner::Joiner;
use sennit_engine::inner::offload::VirtioHeader;
use sennit_engine::time::Instant;
use tokio::sync::mpsc::UnboundedSender;
use tracing::{debug, trace};

use super::{Clock, Command, Counters, Endpoint, Notice};
use crate::tun::{self, Tun};
use crate::udp::{Outgoing, Receiver, SEND_BATCH, Sent, UdpSocket};

/// A gap between two runs of this thread that is longer than this is no silence of the network.
const GAP: Duration = Duration::from_millis(5);
/// Batches that are received from one socket before the others have their turn.
const BATCHES: usize = 4;
/// Packets that are read from the TUN device before the sockets have their turn, and their bytes: what was read should
/// still be in the processor's cache when it is sealed.
const PACKETS: usize = 64;
const BYTES: usize = 256 << 10;
/// Messages that are sent before the sockets are read again: at 64 KiB each, some milliseconds of a fast link.
const TRANSMITS: usize = 64;
/// So many times of these at the end: more than there are clients and paths.
const LAST_TURNS: usize = 1000;
/// The most that one UDP message can have, bytes.
const MESSAGE: usize = 65_507;
/// Datagrams of one message: a full one of 64 KiB has 44 of 1,472 bytes.
const SEGMENTS: usize = 44;
/// Parts of one packet for the TUN device: its header, the packet's headers, its payload.
const PARTS: usize = 64;
/// Descriptors that are waited for: the TUN device, the event, and sockets.
const DESCRIPTORS: usize = 64;

/// Sockets that a data path can have at a time.
const SOCKETS: usize = DESCRIPTORS - 2;

/// The engine with everything around it.
pub(super) struct Shell<E: Endpoint> {
    engine: E,
    tun: Tun,
    clock: Clock,
    sockets: Vec<(SocketId, UdpSocket)>,
    commands: CommandReceiver<Command<E>>,
    wake: Arc<OwnedFd>,
    tell: UnboundedSender<Notice<E::Event>>,
    receiver: Receiver,
    packets: Pool,
    joiner: Joiner,
    /// Datagrams on their way out, and where each message of them goes.
    out: Vec<u8>,
    messages: Vec<Message>,
    counters: Counters,
}

/// A message in [`Shell::out`].
#[derive(Clone, Copy)]
struct Message {
    network: NetworkPath,
    from: usize,
    to: usize,
    segment: usize,
}

/// How a turn of the loop ended.
enum Turn {
    /// Nothing is left to read.
    Idle,
    /// More waits.
    Busy,
    Stop,
}

impl<E: Endpoint> Shell<E> {
    pub(super) fn new(
        engine: E,
        tun: Tun,
        clock: Clock,
        commands: CommandReceiver<Command<E>>,
        wake: Arc<OwnedFd>,
        tell: UnboundedSender<Notice<E::Event>>,
    ) -> Self {
        Self {
            engine,
            tun,
            clock,
            sockets: Vec::new(),
            commands,
            wake,
            tell,
            receiver: Receiver::default(),
            packets: Pool::new(),
            joiner: Joiner::default(),
            out: Vec::with_capacity(SEND_BATCH * MESSAGE),
            messages: Vec::with_capacity(SEND_BATCH),
            counters: Counters::default(),
        }
    }

    /// Runs until it is told to stop, or the TUN device is gone.
    pub(super) fn run(mut self) {
        // Deadlines are fractions of a millisecond; the kernel's default slack is 50 microseconds.
        if let Err(error) = rustix::thread::set_current_timer_slack(NonZeroU64::new(1_000)) {
            debug!(%error, "timer slack not set");
        }
        let mut busy = false;
        loop {
            let ready = self.wait(busy);
            let woken = self.clock.now();
            match self.turn(woken, ready) {
                Ok(Turn::Idle) => busy = false,
                Ok(Turn::Busy) => busy = true,
                Ok(Turn::Stop) => return,
                Err(error) => {
                    let _ = self.tell.send(Notice::TunnelLost(error));
                    return;
                }
            }
            let worked = self.clock.now().since(woken);
            if worked > GAP {
                self.gap(worked);
            }
        }
    }

    /// Waits for input or a deadline. Bit `n` of the answer: descriptor `n` has something (TUN, event, sockets).
    fn wait(&mut self, busy: bool) -> u64 {
        let deadline = if busy {
            Some(Instant::ZERO)
        } else {
            self.engine.poll_timeout()
        };
        let asleep = self.clock.now();
        let timeout = deadline.map(|deadline| {
            let wait = deadline.since(asleep);
            // Seconds of a deadline fit: it is a sum of durations that do.
            Timespec {
                tv_sec: wait.as_secs() as i64,
                tv_nsec: i64::from(wait.subsec_nanos()),
            }
        });
        let mut descriptors: [PollFd<'_>; DESCRIPTORS] =
            std::array::from_fn(|_| PollFd::new(&self.tun, PollFlags::IN));
        descriptors[1] = PollFd::new(&*self.wake, PollFlags::IN);
        for (descriptor, (_, socket)) in descriptors[2..].iter_mut().zip(&self.sockets) {
            *descriptor = PollFd::new(socket, PollFlags::IN);
        }
        let count = 2 + self.sockets.len().min(SOCKETS);
        let outcome = poll(&mut descriptors[..count], timeout.as_ref());
        let mut ready = 0;
        for (index, descriptor) in descriptors[..count].iter().enumerate() {
            ready |= u64::from(!descriptor.revents().is_empty()) << index;
        }
        if let (Ok(0), Some(deadline)) = (outcome, deadline)
            && !busy
        {
            let late = self.clock.now().since(deadline.max(asleep));
            if late > GAP {
                self.gap(late);
            }
        }
        ready
    }

    fn gap(&mut self, gap: Duration) {
        trace!(?gap, "deadlines shifted");
        self.counters.gaps += 1;
        self.engine.clock_gap(gap);
    }

    fn turn(&mut self, now: Instant, ready: u64) -> io::Result<Turn> {
        if ready & 0b10 != 0 && self.obey(now) {
            // The last words of all sessions; an engine that closes has nothing else to say.
            for _ in 0..LAST_TURNS {
                if self.transmit(now) {
                    break;
                }
            }
            return Ok(Turn::Stop);
        }
        let mut drained = true;
        for index in 0..self.sockets.len().min(SOCKETS) {
            if ready & (1 << (index + 2)) != 0 {
                drained &= self.receive(now, index);
            }
        }
        self.deliver();
        if ready & 1 != 0 {
            drained &= self.read_tun(now)?;
        }
        if drained && self.engine.poll_timeout().is_some_and(|deadline| deadline <= now) {
            self.engine.handle_timeout(now);
            self.deliver();
        }
        drained &= self.transmit(now);
        while let Some(event) = self.engine.poll_event() {
            let _ = self.tell.send(Notice::Event(event));
        }
        Ok(if drained { Turn::Idle } else { Turn::Busy })
    }

    /// Does what the other threads want; true to stop.
    fn obey(&mut self, now: Instant) -> bool {
        let mut count = [0; 8];
        let _ = rustix::io::read(&*self.wake, &mut count);
        loop {
            match self.commands.try_recv() {
                Ok(Command::Engine(action)) => action(&mut self.engine, now),
                Ok(Command::AddSocket(id, socket)) => {
                    self.sockets.retain(|(known, _)| *known != id);
                    self.sockets.push((id, socket));
                }
                Ok(Command::RemoveSocket(id)) => self.sockets.retain(|(known, _)| *known != id),
                Ok(Command::ReplaceTun(tun)) => self.tun = tun,
                Ok(Command::Counters(answer)) => {
                    let _ = answer.send(self.counters);
                }
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return true,
                Err(TryRecvError::Empty) => return false,
            }
        }
    }

    /// Receives from one socket; true if nothing is left in it.
    fn receive(&mut self, now: Instant, index: usize) -> bool {
        let Self {
            engine,
            sockets,
            receiver,
            counters,
            ..
        } = self;
        let Some((id, socket)) = sockets.get(index) else {
            return true;
        };
        for _ in 0..BATCHES {
            counters.system_calls += 1;
            let outcome = receiver.receive(socket, |meta, data| {
                counters.received += data.len().div_ceil(meta.segment) as u64;
                counters.received_bytes += data.len() as u64;
                let network = NetworkPath {
                    socket: *id,
                    local: meta.local,
                    remote: meta.remote,
                };
                engine.handle_udp(now, network, data, meta.segment, meta.congested);
            });
            match outcome {
                Ok(true) => return true,
                Ok(false) => {}
                // Besides "nothing there": errors of earlier datagrams, which say nothing about later ones.
                Err(_) => return true,
            }
        }
        false
    }

    /// Reads packets from the TUN device; true if nothing is left in it.
    fn read_tun(&mut self, now: Instant) -> io::Result<bool> {
        let Self {
            engine,
            tun,
            packets,
            joiner,
            counters,
            ..
        } = self;
        let mut refused = 0;
        let mut hand_on = |header, packet| refused += u64::from(!engine.handle_tun(now, header, packet));
        let mut outcome = Ok(false);
        let mut bytes = 0;
        for _ in 0..PACKETS {
            if bytes >= BYTES {
                break;
            }
            counters.system_calls += 1;
            let room = packets.room(tun::READ);
            match tun.receive(room) {
                Ok(length) if length > tun::HEADER => {
                    bytes += length;
                    let header = room.split_to(tun::HEADER);
                    let packet = room.split().freeze();
                    counters.tunnel_in += 1;
                    counters.tunnel_in_bytes += packet.len() as u64;
                    let header = <[u8; tun::HEADER]>::try_from(&header[..]).unwrap_or_default();
                    match VirtioHeader::parse(&header) {
                        Some(header) => joiner.take(header, packet, &mut hand_on),
                        None => counters.tunnel_in_refused += 1,
                    }
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // EIO: the interface is down; packets come again when it is up.
                    let nothing =
                        error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::EIO);
                    outcome = if nothing { Ok(true) } else { Err(error) };
                    break;
                }
            }
        }
        joiner.finish(&mut hand_on);
        counters.tunnel_in_refused += refused;
        outcome
    }

    /// Hands packets that left the tunnel to the kernel.
    fn deliver(&mut self) {
        while let Some(delivery) = self.engine.poll_deliver() {
            let header = delivery.header.to_bytes();
            let mut parts = [IoSlice::new(&[]); PARTS];
            let mut count = 0;
            let mut length = 0;
            let payload = delivery.parts.iter().map(|part| &part[..]);
            for part in [&header[..], &delivery.head[..]]
                .into_iter()
                .chain(payload)
                .take(PARTS)
            {
                parts[count] = IoSlice::new(part);
                length += part.len();
                count += 1;
            }
            self.counters.system_calls += 1;
            match self.tun.send(&parts[..count]) {
                Ok(_) => {
                    self.counters.tunnel_out += 1;
                    self.counters.tunnel_out_bytes += (length - tun::HEADER) as u64;
                }
                Err(error) => {
                    trace!(%error, length, "packet not delivered");
                    self.counters.tunnel_out_failed += 1;
                }
            }
        }
    }

    /// Sends what the engine wants to send; false if it wants to send more than one turn's share.
    fn transmit(&mut self, now: Instant) -> bool {
        for _ in 0..TRANSMITS {
            let from = self.out.len();
            let transmit = self.engine.poll_transmit(now, &mut self.out, SEGMENTS);
            let Some(transmit) = transmit else {
                self.flush();
                return true;
            };
            let segment = transmit.segment_size.max(1);
            let whole = MESSAGE / segment * segment;
            let mut at = from;
            while at < self.out.len() {
                let to = self.out.len().min(at + whole.max(segment));
                self.messages.push(Message {
                    network: transmit.network,
                    from: at,
                    to,
                    segment,
                });
                at = to;
            }
            if self.messages.len() >= SEND_BATCH || self.out.len() >= BYTES {
                self.flush();
            }
        }
        self.flush();
        false
    }

    /// Sends the messages that were gathered, each run of one socket by one system call.
    fn flush(&mut self) {
        let Self {
            sockets,
            out,
            messages,
            counters,
            tell,
            ..
        } = self;
        let mut rest = &messages[..];
        while let Some(first) = rest.first() {
            let run = rest
                .iter()
                .take(SEND_BATCH)
                .take_while(|message| message.network.socket == first.network.socket)
                .count();
            let (now, later) = rest.split_at(run);
            rest = later;
            let Some((id, socket)) = sockets.iter().find(|(id, _)| *id == first.network.socket) else {
                continue;
            };
            let mut outgoing = [Outgoing {
                data: &[],
                segment: 1,
                remote: first.network.remote,
                local: None,
            }; SEND_BATCH];
            for (slot, message) in outgoing.iter_mut().zip(now) {
                let data = &out[message.from..message.to];
                counters.sent += data.len().div_ceil(message.segment) as u64;
                counters.sent_bytes += data.len() as u64;
                *slot = Outgoing {
                    data,
                    segment: message.segment,
                    remote: message.network.remote,
                    local: message.network.local,
                };
            }
            counters.system_calls += 1;
            socket.send(&outgoing[..run], |_, sent| match sent {
                Sent::Whole => {}
                Sent::NoRoom => counters.no_room += 1,
                Sent::TooLarge => counters.too_large += 1,
                Sent::Unreachable => {
                    counters.unreachable += 1;
                    let _ = tell.send(Notice::Unreachable(*id));
                }
            });
        }
        out.clear();
        messages.clear();
    }
}
