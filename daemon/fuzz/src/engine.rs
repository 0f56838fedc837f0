//! The whole engine against a peer that has keys and knows no manners: it sends any frames at any time, on any path, from
//! any address. Whatever comes: no panic, no endless output, timers that go on, and no nonce used twice.

mod ends;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ends::{Engine, HostilePeer};
use sennit_engine::ids::{NetworkPath, SocketId};
use sennit_engine::inner::VirtioHeader;
use sennit_engine::time::Instant;
use sennit_engine::wire::DataHeader;

/// Polls that one step may cause; each gives up to 44 datagrams.
const MOST_POLLS: usize = 2000;

/// A bit of the first byte says which end is tried; then steps: what, and as many bytes as that takes.
pub fn run(input: &[u8]) {
    let Some((&choice, mut rest)) = input.split_first() else {
        return;
    };
    let mut now = Instant::from_millis(10_000);
    let (mut engine, mut peer) = ends::connected(choice & 1 != 0, now);
    let mut seen = BTreeSet::new();
    settle(&mut engine, &mut peer, now, &mut seen);
    while let Some((&[what, length], behind)) = rest.split_first_chunk() {
        let (bytes, behind) = behind.split_at(usize::from(length).min(behind.len()));
        rest = behind;
        match what % 16 {
            // Frames, under the session's keys.
            0..8 => {
                let datagram = peer.seal(what >> 4 & 3, bytes);
                engine.handle_udp(now, network(what >> 6), &datagram);
            }
            // A datagram without keys.
            8 => engine.handle_udp(now, network(what >> 6), bytes),
            // Time.
            9 | 10 => {
                let step = bytes
                    .iter()
                    .fold(1u64, |step, byte| step.wrapping_mul(3) + u64::from(*byte));
                now += Duration::from_micros(step % 3_000_000);
            }
            // An inner packet.
            11 | 12 => engine.handle_tun(now, VirtioHeader::default(), packet(&engine, bytes)),
            // Everything that was sent so far is acknowledged.
            13 | 14 => {
                let acknowledgements = peer.acknowledge();
                let datagram = peer.seal(what >> 4 & 3, &acknowledgements);
                engine.handle_udp(now, network(what >> 6), &datagram);
            }
            // New keys.
            _ => peer.shake_hands(&mut engine, now, network(what >> 6), what & 0x10 != 0),
        }
        settle(&mut engine, &mut peer, now, &mut seen);
    }
    // Silence.
    for _ in 0..200 {
        let Some(next) = engine.poll_timeout() else { break };
        now = now.max(next) + Duration::from_millis(50);
        settle(&mut engine, &mut peer, now, &mut seen);
    }
}

fn network(which: u8) -> NetworkPath {
    NetworkPath {
        socket: SocketId(0),
        local: None,
        remote: SocketAddr::from(([192, 0, 2, which], 4000)),
    }
}

/// UDP over IPv4 that the engine's end may send.
fn packet(engine: &Engine, bytes: &[u8]) -> Bytes {
    let (source, destination) = engine.inner_addresses();
    let total = (28 + bytes.len()) as u16;
    let mut packet = BytesMut::new();
    packet.extend_from_slice(&[0x45, 0]);
    packet.extend_from_slice(&total.to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend_from_slice(&source);
    packet.extend_from_slice(&destination);
    let port = bytes.first().copied().unwrap_or(0);
    packet.extend_from_slice(&[0, port, 0, 53]);
    packet.extend_from_slice(&(total - 20).to_be_bytes());
    packet.extend_from_slice(&[0, 0]);
    packet.extend_from_slice(bytes);
    packet.freeze()
}

/// Does all that is due and takes all that comes out.
fn settle(engine: &mut Engine, peer: &mut HostilePeer, now: Instant, seen: &mut BTreeSet<(u32, u8, u64)>) {
    let mut rounds = 0;
    while engine.poll_timeout().is_some_and(|next| next <= now) {
        engine.handle_timeout(now);
        drain(engine, peer, now, seen);
        rounds += 1;
        assert!(rounds < 1000, "the timer does not go on");
    }
    drain(engine, peer, now, seen);
}

fn drain(engine: &mut Engine, peer: &mut HostilePeer, now: Instant, seen: &mut BTreeSet<(u32, u8, u64)>) {
    let mut out = Vec::new();
    let mut polls = 0;
    while let Some(segment_size) = engine.poll_transmit(now, &mut out) {
        polls += 1;
        assert!(polls < MOST_POLLS, "output without end");
        assert!(segment_size > 0 && !out.is_empty());
        for datagram in out.chunks(segment_size) {
            assert!(datagram.len() <= 1472);
            if let Some(header) = DataHeader::decode(datagram) {
                let number = peer.open(header, datagram);
                if let Some(number) = number {
                    let nonce = (header.receiver.0, header.path.0, number);
                    assert!(seen.insert(nonce), "a nonce was used twice: {nonce:?}");
                }
            } else {
                peer.keep(datagram);
            }
        }
        out.clear();
    }
    engine.deliver();
}
