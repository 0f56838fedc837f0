//! What the engine costs: one TCP flow in super-segments from client to server, in one thread, without a network.
//!
//! Printed beside it is the limit of the shape, measured in the same run: sealing and opening the same bytes, and
//! nothing else.

#![allow(clippy::print_stdout)]
#![allow(dead_code, reason = "what it shares with the tests has more than it uses")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use sennit_engine::buffer::Pool;
use sennit_engine::crypto::{DirectionKey, Suite};
use sennit_engine::ids::PathId;
use sennit_engine::inner::offload::Segmentation;
use sennit_engine::inner::{VirtioHeader, checksum};
use sennit_engine::settings::Mode;
use support::{CLIENT_INNER, HOST, Link, Pair};

const SUPER_SEGMENT: usize = 60_000;
const BYTES: usize = 400 << 20;

fn main() {
    let limit = seal_and_open();
    println!(
        "seal and open only       {:>8.2} Gbit/s  {:>6.2} s/GB",
        limit,
        8.0 / limit
    );
    for paths in [1, 2] {
        let rate = engine(paths);
        println!(
            "engine, {paths} path(s), 2 ends {rate:>8.2} Gbit/s  {:>6.2} s/GB  {:.2} of the limit",
            8.0 / rate,
            rate / limit
        );
    }
}

fn gigabits(bytes: usize, elapsed: Duration) -> f64 {
    bytes as f64 * 8.0 / elapsed.as_secs_f64() / 1e9
}

fn seal_and_open() -> f64 {
    let key = DirectionKey::new(Suite::Aes256Gcm, &[7; 32], [9; 12]);
    let started = Instant::now();
    let mut out = Vec::with_capacity(2048);
    let mut done = 0;
    let mut number = 0;
    while done < BYTES {
        out.clear();
        out.resize(1448, 1);
        key.seal(PathId(0), number, &mut out, 0);
        assert!(key.open(PathId(0), number, &mut out).is_some());
        number += 1;
        done += 1448;
    }
    gigabits(done, started.elapsed())
}

fn engine(paths: usize) -> f64 {
    let link = Link {
        delay: Duration::from_micros(50),
        lose_every: None,
        silent: false,
    };
    let mut pair = Pair::new(Mode::Speed, &vec![link; paths]);
    pair.count_only = true;
    pair.run(Duration::from_millis(100));
    let mut pool = Pool::new();
    let mut sequence = 0u32;
    let mut template = super_segment();
    let started = Instant::now();
    while pair.delivered_bytes < BYTES {
        for _ in 0..4 {
            template[24..28].copy_from_slice(&sequence.to_be_bytes());
            sequence = sequence.wrapping_add(SUPER_SEGMENT as u32);
            let room = pool.room(template.len());
            room.extend_from_slice(&template);
            let packet = room.split().freeze();
            let header = VirtioHeader {
                needs_checksum: true,
                segmentation: Segmentation::Tcp4,
                segment_size: 1448,
                checksum_start: 20,
                checksum_offset: 16,
                ..VirtioHeader::default()
            };
            let _ = pair.client.handle_tun(pair.now, header, packet);
        }
        pair.run(Duration::from_micros(100));
    }
    gigabits(pair.delivered_bytes, started.elapsed())
}

fn super_segment() -> Vec<u8> {
    let mut packet = vec![0u8; 52 + SUPER_SEGMENT];
    let length = packet.len() as u16;
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet[8] = 64;
    packet[9] = 6;
    packet[12..16].copy_from_slice(&CLIENT_INNER.octets());
    packet[16..20].copy_from_slice(&HOST.octets());
    let sum = checksum::fold(checksum::add(0, &packet[..20]));
    packet[10..12].copy_from_slice(&(!sum).to_be_bytes());
    packet[20..22].copy_from_slice(&5000u16.to_be_bytes());
    packet[22..24].copy_from_slice(&6000u16.to_be_bytes());
    packet[32] = 8 << 4;
    packet[33] = 0x10;
    packet[34..36].copy_from_slice(&500u16.to_be_bytes());
    packet[40..44].copy_from_slice(&[1, 1, 8, 10]);
    packet
}
