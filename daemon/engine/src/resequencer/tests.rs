//! The whole way: packets into the queues, pieces over a network that loses, copies, reorders and cuts again, and out of
//! the resequencer.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::*;
use crate::flow::{FlowQueues, Room, Want};
use crate::inner::packet::tcp_flags;
use crate::inner::testing::{Tcp, as_kernel, udp};
use crate::inner::{Compressor, ContextId, Piece, VirtioHeader, parse};
use crate::wire::frame::{self, Frame};

/// Randomness of a test.
struct Dice(ChaCha12Rng);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(ChaCha12Rng::seed_from_u64(seed))
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0.next_u64() % limit
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// One TCP connection as its receiver sees it, and what was sent.
#[derive(Default)]
struct Connection {
    sent: Vec<u8>,
    /// How often each byte came.
    came: Vec<u8>,
    /// Segments that did not begin where the last one ended.
    out_of_order: usize,
    next: usize,
    /// What stood in the header before each stretch of bytes, by the stretch's end.
    headers: BTreeMap<usize, Tcp>,
    /// Where segments with these flags began or ended.
    reduced: Vec<usize>,
    pushed: Vec<usize>,
}

impl Connection {
    /// Compares the header of a segment that begins at `at` with the one that these bytes were sent under.
    fn check(&mut self, at: usize, packet: &[u8], length: usize) {
        let parsed = parse(packet).expect("a packet");
        let tcp = parsed.tcp.expect("TCP");
        // Stretches may be joined, if their headers say the same.
        let mut covered = at;
        for (end, sent) in self.headers.range(at + 1..) {
            if covered >= at + length {
                break;
            }
            covered = *end;
            assert_eq!(
                (tcp.acknowledgement, tcp.window),
                (sent.acknowledgement, sent.window)
            );
            assert_eq!(parsed.dscp << 2 | parsed.ecn, sent.traffic_class);
            assert_eq!(tcp.timestamps, sent.timestamps.is_some());
            if let Some([value, echo]) = sent.timestamps {
                let options = &packet[parsed.header_len + 24..parsed.header_len + 32];
                assert_eq!(options, [value.to_be_bytes(), echo.to_be_bytes()].concat());
            }
        }
        assert!(covered >= at + length, "bytes that were sent");
        if tcp.flags & tcp_flags::CWR != 0 {
            self.reduced.push(at);
        }
        if tcp.flags & tcp_flags::PSH != 0 {
            self.pushed.push(at + length);
        }
    }

    /// Flags of a first or last segment came once, and there.
    fn check_flags(&mut self) {
        let (mut reduced, mut pushed) = (Vec::new(), Vec::new());
        for (end, sent) in &self.headers {
            if sent.flags & tcp_flags::CWR != 0 {
                reduced.push(end - sent.payload.len());
            }
            if sent.flags & tcp_flags::PSH != 0 {
                pushed.push(*end);
            }
        }
        self.reduced.sort_unstable();
        self.pushed.sort_unstable();
        assert_eq!((&self.reduced, &self.pushed), (&reduced, &pushed));
    }
}

const FIRST: u32 = u32::MAX - 20_000;

struct World {
    dice: Dice,
    now: Instant,
    queues: FlowQueues,
    compressor: Compressor,
    resequencer: Resequencer,
    connections: Vec<Connection>,
    datagrams: BTreeMap<u32, usize>,
    acknowledgements: BTreeMap<u32, usize>,
    sent_datagrams: u32,
    sent_acknowledgements: u32,
    flying: Vec<Vec<Piece>>,
    tick: Duration,
}

impl World {
    fn new(seed: u64, connections: usize) -> Self {
        let mut queues = FlowQueues::new(seed);
        queues.set_bulk_target(Duration::from_secs(3600));
        Self {
            dice: Dice::new(seed),
            now: Instant::from_millis(1000),
            queues,
            compressor: Compressor::new(seed),
            resequencer: Resequencer::new(seed),
            connections: (0..connections).map(|_| Connection::default()).collect(),
            datagrams: BTreeMap::new(),
            acknowledgements: BTreeMap::new(),
            sent_datagrams: 0,
            sent_acknowledgements: 0,
            flying: Vec::new(),
            tick: Duration::from_micros(50),
        }
    }

    fn enqueue(&mut self) {
        let dice = &mut self.dice;
        if dice.percent(20) {
            let mut payload = vec![9; dice.below(1460) as usize + 4];
            payload[..4].copy_from_slice(&self.sent_datagrams.to_be_bytes());
            self.sent_datagrams += 1;
            let packet = udp(7000, 0, &payload);
            self.queues
                .enqueue(self.now, VirtioHeader::default(), packet)
                .expect("queued");
            return;
        }
        let index = dice.below(self.connections.len() as u64) as usize;
        let connection = &mut self.connections[index];
        let mut packet = Tcp {
            ipv6: index % 2 == 1,
            port: 80 + index as u16,
            sequence: FIRST.wrapping_add(connection.sent.len() as u32),
            acknowledgement: 5000 + dice.below(3) as u32,
            timestamps: (index % 3 != 2).then(|| [self.now.as_wire_micros() / 1000, 5]),
            window: 500 + dice.below(3) as u16,
            traffic_class: if dice.percent(3) { 0x10 } else { 0 },
            may_fragment: index == 4,
            segment_size: 1448,
            ..Tcp::default()
        };
        if dice.percent(15) {
            // Pure acknowledgements are told apart by their number.
            packet.acknowledgement = 1_000_000 + self.sent_acknowledgements;
            packet.window = 1;
            if dice.percent(30) {
                packet.options = vec![1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2];
            }
            self.sent_acknowledgements += 1;
            let packet = packet.plain();
            self.queues
                .enqueue(self.now, VirtioHeader::default(), packet)
                .expect("queued");
            return;
        }
        if dice.percent(30) {
            packet.flags |= tcp_flags::PSH;
        }
        if dice.percent(10) {
            packet.flags |= tcp_flags::CWR;
        }
        if dice.percent(3) {
            packet.options = vec![1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2];
        }
        let length = match dice.below(3) {
            0 => 1 + dice.below(1448),
            1 => 1448,
            _ => 1 + dice.below(20_000),
        };
        let begin = connection.sent.len();
        let bytes = (begin..begin + length as usize).map(|at| (at * 31 + at / 251) as u8);
        packet.payload = bytes.collect();
        connection.sent.extend_from_slice(&packet.payload);
        connection.came.resize(connection.sent.len(), 0);
        connection.headers.insert(connection.sent.len(), packet.clone());
        let (header, bytes) = packet.offloaded();
        self.queues.enqueue(self.now, header, bytes).expect("queued");
    }

    /// Fills one datagram.
    fn transmit(&mut self) -> bool {
        let full = [1448, 1448, 1400, 1152][self.dice.below(4) as usize];
        let want = match self.dice.below(4) {
            0 => Want::Depth(self.dice.below(40_000)),
            1 => Want::Interactive,
            _ => Want::Head,
        };
        let mut left = full;
        let mut pieces: Vec<Piece> = Vec::new();
        while let Some(piece) = self
            .queues
            .next(self.now, Room { left, full }, want, &self.compressor)
        {
            let len = piece.encoded_len(&self.compressor, true);
            assert!(len <= left, "a piece of {len} bytes for a room of {left}");
            pieces.push(piece);
            // With its length, if another one follows.
            left = left.saturating_sub(len + 2);
            if left < 200 {
                break;
            }
        }
        let any = !pieces.is_empty();
        if any {
            self.flying.push(pieces);
        }
        any
    }

    /// Lets one of the datagrams arrive, get lost, or arrive and come again.
    fn arrive(&mut self, reach: usize) {
        let reach = reach.min(self.flying.len()) as u64;
        let mut pieces = self.flying.remove(self.dice.below(reach) as usize);
        if self.dice.percent(20) {
            if self.dice.percent(40) {
                // Or rather late: it comes, too, in other pieces than the repair.
                self.flying.push(pieces.clone());
            }
            // Lost, and repaired later, maybe over a narrower path.
            let room = [1448, 700, 500][self.dice.below(3) as usize];
            let mut again = Vec::new();
            for mut piece in pieces {
                while let Some(front) = piece.split_to_fit(room, &self.compressor, true) {
                    assert!(front.encoded_len(&self.compressor, true) <= room);
                    again.push(vec![front]);
                }
                again.push(vec![piece]);
            }
            self.flying.append(&mut again);
            return;
        }
        let (datagram, contexts) = self.seal(&pieces);
        let read = self.deliver(&datagram);
        assert!(read, "contexts that were acknowledged are known");
        if self.dice.percent(70) {
            contexts
                .into_iter()
                .for_each(|context| self.compressor.acknowledged(context));
        }
        if self.dice.percent(10) {
            assert!(self.deliver(&datagram), "a copy is read, too");
        }
        if self.dice.percent(5)
            && let Some(piece) = pieces.first_mut()
        {
            // A suspicion copy that was needless.
            let front = piece.split_to_fit(600, &self.compressor, true);
            self.flying.push(vec![front.unwrap_or_else(|| piece.clone())]);
        }
        self.drain();
    }

    fn seal(&mut self, pieces: &[Piece]) -> (Bytes, Vec<ContextId>) {
        let mut out = Vec::new();
        let mut contexts = Vec::new();
        for (index, piece) in pieces.iter().enumerate() {
            let last = index + 1 == pieces.len();
            let expected = piece.encoded_len(&self.compressor, last);
            let before = out.len();
            contexts.extend(piece.encode(&mut out, &mut self.compressor, last));
            let written = out.len() - before;
            assert!(
                written <= expected && written + 1 >= expected,
                "{written} bytes, not {expected}"
            );
        }
        (out.into(), contexts)
    }

    fn deliver(&mut self, datagram: &Bytes) -> bool {
        let mut at = 0;
        while let Some(read) = frame::read(datagram, &mut at).expect("frames") {
            match read {
                Frame::Data(data) => {
                    let body = datagram.slice(data.body);
                    let (flow, ordered) = (data.flow, data.ordered);
                    let (offset, kind) = (data.offset, data.kind);
                    let read = self
                        .resequencer
                        .receive(self.now, flow, ordered, offset, kind, body);
                    if read.is_err() {
                        return false;
                    }
                }
                Frame::Skip { flow, offset, length } => {
                    self.resequencer.skip(self.now, flow, offset, length);
                }
                other => panic!("{other:?}"),
            }
        }
        true
    }

    fn drain(&mut self) {
        while let Some(delivery) = self.resequencer.poll() {
            assert!(delivery.parts.len() <= 46 && delivery.len() <= 65_535);
            let mut written = delivery.head.to_vec();
            delivery
                .parts
                .iter()
                .for_each(|part| written.extend_from_slice(part));
            for (parsed, packet) in as_kernel(&delivery.header, &written) {
                assert!(packet.len() <= 1532, "{} bytes", packet.len());
                let payload = &packet[parsed.headers_len()..];
                match parsed.tcp {
                    None => {
                        let number = u32::from_be_bytes(payload[..4].try_into().expect("four bytes"));
                        *self.datagrams.entry(number).or_default() += 1;
                    }
                    Some(tcp) if payload.is_empty() && tcp.acknowledgement >= 1_000_000 => {
                        let number = tcp.acknowledgement - 1_000_000;
                        *self.acknowledgements.entry(number).or_default() += 1;
                    }
                    Some(tcp) => {
                        let index = usize::from(parsed.key.source_port - 80);
                        let connection = &mut self.connections[index];
                        let at = tcp.sequence.wrapping_sub(FIRST) as usize;
                        assert_eq!(&connection.sent[at..at + payload.len()], payload, "bytes at {at}");
                        connection.out_of_order += usize::from(at != connection.next);
                        connection.next = at + payload.len();
                        connection.check(at, &packet, payload.len());
                        for byte in &mut connection.came[at..at + payload.len()] {
                            *byte += 1;
                        }
                    }
                }
            }
            self.resequencer.recycle(delivery);
        }
    }

    fn check_exactly_once(&mut self) {
        for connection in &mut self.connections {
            connection.check_flags();
            let missing = connection.came.iter().filter(|times| **times == 0).count();
            let doubled = connection.came.iter().filter(|times| **times > 1).count();
            let found = self.resequencer.statistics();
            assert_eq!((missing, doubled), (0, 0), "bytes missing and doubled; {found:?}");
        }
        assert_eq!(self.datagrams.len(), self.sent_datagrams as usize);
        assert!(self.datagrams.values().all(|times| *times == 1));
        // Thinned acknowledgements never left the queue.
        let thinned = self.queues.statistics().thinned as usize;
        assert_eq!(
            self.acknowledgements.len() + thinned,
            self.sent_acknowledgements as usize
        );
        assert!(self.acknowledgements.values().all(|times| *times == 1));
    }

    fn check_empty(&self) {
        let found = self.resequencer.statistics();
        assert_eq!(
            found.gaps,
            found.filled + found.timed_out + found.overflowed + found.reset
        );
        assert_eq!(self.resequencer.deadline(), None);
        assert_eq!(self.resequencer.blocked_flows(), 0);
        assert_eq!(self.resequencer.waiting_bytes, 0);
        assert_eq!(self.resequencer.ready_bytes, 0);
        assert!(self.queues.is_empty());
        assert_eq!(self.queues.backlog_bytes(), 0);
    }

    fn run(&mut self, packets: usize, reach: usize) {
        for _ in 0..packets {
            self.enqueue();
            if self.dice.percent(40) {
                self.transmit();
            }
            if !self.flying.is_empty() && self.dice.percent(40) {
                self.arrive(reach);
            }
            self.step();
        }
        let mut idle = 0;
        while !self.queues.is_empty() || !self.flying.is_empty() {
            idle = if self.transmit() { 0 } else { idle + 1 };
            assert!(
                idle < 1000 || self.queues.is_empty(),
                "queues give out what they hold"
            );
            if !self.flying.is_empty() {
                self.arrive(reach);
            }
            self.step();
        }
    }

    fn step(&mut self) {
        self.now += self.tick;
        if self
            .resequencer
            .deadline()
            .is_some_and(|deadline| deadline <= self.now)
        {
            self.resequencer.on_timeout(self.now);
            self.drain();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn while_holes_are_waited_for_everything_comes_once_and_in_order(seed in any::<u64>(), connections in 1..6usize) {
        let mut world = World::new(seed, connections);
        // The whole run takes less than the hold: nothing is given up.
        world.tick = Duration::from_nanos(500);
        world.resequencer.set_hold(HoldHint { skew_us: 150_000, repair_us: 150_000 });
        world.run(60, 12);
        world.check_exactly_once();
        let found = world.resequencer.statistics();
        prop_assert_eq!((found.timed_out, found.late, found.overflowed), (0, 0, 0));
        prop_assert!(world.connections.iter().all(|connection| connection.out_of_order == 0));
        world.check_empty();
    }

    #[test]
    fn when_holes_are_given_up_everything_still_comes_once(seed in any::<u64>(), connections in 1..6usize) {
        let mut world = World::new(seed, connections);
        world.resequencer.set_hold(HoldHint { skew_us: 0, repair_us: 0 });
        world.run(400, 200);
        world.check_exactly_once();
        world.check_empty();
    }
}
