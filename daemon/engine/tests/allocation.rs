//! What a piece costs on its way from the TUN device to the other one, without network and seal: allocations, which there
//! must be none of once all memory is warm, and time, which is printed (`--release -- --nocapture`).

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sennit_engine::buffer::Pool;
use sennit_engine::flow::{FlowQueues, Room, Want};
use sennit_engine::inner::offload::Segmentation;
use sennit_engine::inner::{Compressor, Piece, VirtioHeader};
use sennit_engine::resequencer::Resequencer;
use sennit_engine::time::Instant;
use sennit_engine::wire::frame::{self, Frame};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Counts what this thread allocates.
struct Counting;

// SAFETY: every call goes to the system's allocator as it came; the count touches no memory of it.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps `dealloc`'s contract; all memory here is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps `realloc`'s contract; all memory here is the system's.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

fn count() {
    // A thread that ends has no count any more, and needs none.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Time that this thread had a processor, so that a busy machine does not spoil the figures. Zero where it cannot be told.
fn time_on_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text
        .split_whitespace()
        .next()
        .and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

/// Both ends, and memory for reads as the daemon has it.
struct Ends {
    now: Instant,
    tun: Pool,
    socket: Pool,
    queues: FlowQueues,
    compressor: Compressor,
    resequencer: Resequencer,
    datagram: Vec<u8>,
    sequence: u32,
    pieces: u64,
    delivered: u64,
}

impl Ends {
    fn new() -> Self {
        let mut queues = FlowQueues::new(1);
        queues.set_bulk_target(Duration::from_secs(10));
        Self {
            now: Instant::from_millis(1),
            tun: Pool::new(),
            socket: Pool::new(),
            queues,
            compressor: Compressor::new(1),
            resequencer: Resequencer::new(1),
            datagram: Vec::with_capacity(2048),
            sequence: 0,
            pieces: 0,
            delivered: 0,
        }
    }

    /// Reads a TCP packet of `payload` bytes off the TUN device.
    fn read_tcp(&mut self, payload: usize) {
        let room = self.tun.room(65_536);
        let total = 52 + payload;
        room.extend_from_slice(&[0x45, 0]);
        room.extend_from_slice(&(total as u16).to_be_bytes());
        room.extend_from_slice(&[0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 80, 0, 99]);
        room.extend_from_slice(&self.sequence.to_be_bytes());
        room.extend_from_slice(&[0, 0, 0, 9, 0x80, 0x10, 1, 1, 0, 0, 0, 0, 1, 1, 8, 10]);
        let stamp = self.now.as_wire_micros() / 1000;
        room.extend_from_slice(&stamp.to_be_bytes());
        room.extend_from_slice(&stamp.to_be_bytes());
        room.resize(total, 7);
        let packet = room.split().freeze();
        self.sequence = self.sequence.wrapping_add(payload as u32);
        let large = payload > 1448;
        let header = VirtioHeader {
            needs_checksum: true,
            segmentation: if large {
                Segmentation::Tcp4
            } else {
                Segmentation::None
            },
            segment_size: if large { 1448 } else { 0 },
            checksum_start: 20,
            checksum_offset: 16,
            ..VirtioHeader::default()
        };
        self.queues.enqueue(self.now, header, packet).expect("queued");
    }

    /// Reads a small UDP packet off the TUN device.
    fn read_udp(&mut self) {
        let room = self.tun.room(65_536);
        room.extend_from_slice(&[
            0x45, 0, 0, 64, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ]);
        room.extend_from_slice(&[0, 99, 0, 80, 0, 44, 0, 0]);
        room.resize(64, 3);
        let packet = room.split().freeze();
        self.queues
            .enqueue(self.now, VirtioHeader::default(), packet)
            .expect("queued");
    }

    fn next(&mut self, want: Want) -> Option<Piece> {
        let room = Room {
            left: 1448,
            full: 1448,
        };
        self.queues.next(self.now, room, want, &self.compressor)
    }

    /// Sends a piece to the other end, in a datagram of its own.
    fn carry(&mut self, piece: Piece) {
        self.datagram.clear();
        if let Some(context) = piece.encode(&mut self.datagram, &mut self.compressor, true) {
            self.compressor.acknowledged(context);
        }
        let room: &mut BytesMut = self.socket.room(65_536);
        room.extend_from_slice(&self.datagram);
        let received: Bytes = room.split().freeze();
        let mut at = 0;
        while let Some(Frame::Data(data)) = frame::read(&received, &mut at).expect("frames") {
            let body = received.slice(data.body);
            self.resequencer
                .receive(self.now, data.flow, data.ordered, data.offset, data.kind, body)
                .expect("readable");
        }
        self.pieces += 1;
    }

    fn fetch(&mut self) {
        while let Some(delivery) = self.resequencer.poll() {
            self.delivered += delivery.len() as u64;
            self.resequencer.recycle(delivery);
        }
    }

    /// Repeats `round` until memory is warm, then counts.
    fn measure(&mut self, mut round: impl FnMut(&mut Self)) -> String {
        const WARM: u64 = 3000;
        const COUNTED: u64 = 3000;
        for _ in 0..WARM {
            round(self);
            self.now += Duration::from_micros(100);
        }
        let (pieces, delivered) = (self.pieces, self.delivered);
        let began = time_on_cpu();
        let before = ALLOCATIONS.with(Cell::get);
        for _ in 0..COUNTED {
            round(self);
            self.now += Duration::from_micros(100);
        }
        // Read after the count: reading it allocates.
        let allocations = ALLOCATIONS.with(Cell::get) - before;
        let took = time_on_cpu().saturating_sub(began);
        let pieces = self.pieces - pieces;
        let bytes = self.delivered - delivered;
        assert!(pieces >= COUNTED, "something was carried");
        // What is left are contexts that are renewed every few seconds, each once.
        assert!(
            allocations * 1000 <= pieces,
            "{allocations} allocations for {pieces} pieces"
        );
        format!(
            "{pieces} pieces, {allocations} allocations, {} ns a piece, {:.1} Gbit/s",
            took.as_nanos() / u128::from(pieces),
            bytes as f64 * 8.0 / took.as_nanos().max(1) as f64
        )
    }
}

#[test]
fn the_count_counts() {
    let mut ends = Ends::new();
    let mut kept = Vec::with_capacity(1000);
    let before = ALLOCATIONS.with(Cell::get);
    for _ in 0..100 {
        ends.read_tcp(1000);
        while let Some(piece) = ends.next(Want::Head) {
            ends.carry(piece);
        }
        // Not handed back: each takes a list of parts along.
        kept.extend(ends.resequencer.poll());
    }
    assert_eq!(kept.len(), 100);
    assert!(ALLOCATIONS.with(Cell::get) - before >= 100);
}

#[test]
fn a_bulk_flow_allocates_nothing() {
    let cost = Ends::new().measure(|ends| {
        ends.read_tcp(60_000);
        while let Some(piece) = ends.next(Want::Head) {
            ends.carry(piece);
        }
        ends.fetch();
    });
    println!("super-segments, one path: {cost}");
}

#[test]
fn a_bulk_flow_over_two_paths_allocates_nothing() {
    let mut late: Vec<Piece> = Vec::with_capacity(64);
    let cost = Ends::new().measure(|ends| {
        ends.read_tcp(60_000);
        for depth in [40_000, 30_000, 20_000, 10_000] {
            late.extend(ends.next(Want::Depth(depth)));
        }
        // The slower path's pieces come first, and wait.
        while let Some(piece) = late.pop() {
            ends.carry(piece);
        }
        while let Some(piece) = ends.next(Want::Head) {
            ends.carry(piece);
        }
        ends.fetch();
    });
    println!("super-segments, the depth taken first: {cost}");
}

#[test]
fn packets_one_by_one_allocate_nothing() {
    let cost = Ends::new().measure(|ends| {
        for _ in 0..20 {
            ends.read_tcp(1448);
        }
        while let Some(piece) = ends.next(Want::Head) {
            ends.carry(piece);
        }
        ends.fetch();
    });
    println!("full-size packets without offload: {cost}");
}

#[test]
fn small_packets_allocate_nothing() {
    let cost = Ends::new().measure(|ends| {
        for _ in 0..20 {
            ends.read_udp();
        }
        while let Some(piece) = ends.next(Want::Head) {
            ends.carry(piece);
        }
        ends.fetch();
    });
    println!("small UDP packets: {cost}");
}
