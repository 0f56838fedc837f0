//! TCP connections on which one end sends, and the other one checks, a stream whose every byte is known.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::print_stderr)]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::bond::{Bond, INTERNET};

/// Behind each block, where several connections share two cores.
const PAUSE: Duration = Duration::from_millis(5);
const BLOCK: u64 = 16_384;

/// Which end of a connection sends. The LAN host always opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Up,
    Down,
}

/// A connection between the LAN host and a host of the Internet.
pub struct Transfer {
    name: String,
    received: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    sender: Option<JoinHandle<Result<u64, String>>>,
    receiver: Option<JoinHandle<Result<u64, String>>>,
}

impl Transfer {
    /// From the LAN host, by IPv4, as fast as it goes.
    pub fn start(bond: &Bond) -> Self {
        Self::open(bond, INTERNET, Direction::Up, Duration::ZERO)
    }

    /// From or to this address of the Internet, at up to about 25 Mbit/s.
    pub fn steady(bond: &Bond, address: &str, direction: Direction) -> Self {
        Self::open(bond, address, direction, PAUSE)
    }

    /// Over the tunnel in this direction; `pause`: behind each block.
    pub fn open(bond: &Bond, address: &str, direction: Direction, pause: Duration) -> Self {
        let (host, other) = connection(bond, address);
        match direction {
            Direction::Up => Self::over(host, other, direction, pause),
            Direction::Down => Self::over(other, host, direction, pause),
        }
    }

    fn over(from: TcpStream, to: TcpStream, direction: Direction, pause: Duration) -> Self {
        let name = format!("{direction:?} {:?}", to.local_addr());
        let key = u64::from(from.local_addr().unwrap().port());
        let received = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (stops, counter) = (Arc::clone(&stop), Arc::clone(&received));
        let (one, two) = (name.clone(), name.clone());
        Self {
            name,
            received,
            stop,
            sender: Some(std::thread::spawn(move || {
                send(from, key, pause, &stops).inspect_err(|error| eprintln!("{one}: {error}"))
            })),
            receiver: Some(std::thread::spawn(move || {
                check(to, key, &counter).inspect_err(|error| eprintln!("{two}: {error}"))
            })),
        }
    }

    /// Waits until this many bytes more have arrived.
    pub fn goes_on(&self, bytes: u64) {
        self.reaches(self.received() + bytes, Instant::now() + Duration::from_secs(20));
    }

    /// Bytes that have arrived.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Waits until so many bytes have arrived in all.
    pub fn reaches(&self, bytes: u64, deadline: Instant) {
        while self.received() < bytes {
            let lost = [&self.sender, &self.receiver]
                .into_iter()
                .flatten()
                .any(JoinHandle::is_finished);
            assert!(!lost, "{}: the connection is lost", self.name);
            assert!(Instant::now() < deadline, "{}: does not go on in time", self.name);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it; all that was sent must have arrived.
    pub fn finish(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = |thread: Option<JoinHandle<_>>| thread.unwrap().join().unwrap();
        let sent: Result<u64, String> = ended(self.sender.take());
        let received = ended(self.receiver.take());
        assert!(
            sent.is_ok() && sent == received,
            "{}: {sent:?} sent, {received:?} received",
            self.name
        );
    }
}

/// A connection from the LAN host to this address: the host's end, and the other one.
fn connection(bond: &Bond, address: &str) -> (TcpStream, TcpStream) {
    let listener = bond.internet.enter(|| TcpListener::bind((address, 0)).unwrap());
    let port = listener.local_addr().unwrap().port();
    let host = bond.host.enter(|| TcpStream::connect((address, port)).unwrap());
    (host, listener.accept().unwrap().0)
}

/// What byte `position` of the stream `key` is.
fn pattern(key: u64, position: u64) -> u8 {
    ((position + (key << 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

fn send(mut stream: TcpStream, key: u64, pause: Duration, stop: &AtomicBool) -> Result<u64, String> {
    let mut position = 0;
    while !stop.load(Ordering::Relaxed) {
        let block: Vec<u8> = (position..position + BLOCK)
            .map(|position| pattern(key, position))
            .collect();
        stream
            .write_all(&block)
            .map_err(|error| format!("sending after {position} bytes: {error}"))?;
        position += BLOCK;
        std::thread::sleep(pause);
    }
    stream
        .shutdown(Shutdown::Write)
        .map_err(|error| format!("ending after {position} bytes: {error}"))?;
    Ok(position)
}

fn check(mut stream: TcpStream, key: u64, received: &AtomicU64) -> Result<u64, String> {
    let mut block = vec![0; 65_536];
    let mut position = 0;
    loop {
        let length = stream
            .read(&mut block)
            .map_err(|error| format!("receiving after {position} bytes: {error}"))?;
        if length == 0 {
            return Ok(position);
        }
        for byte in &block[..length] {
            if *byte != pattern(key, position) {
                return Err(format!("byte {position} is wrong"));
            }
            position += 1;
        }
        received.store(position, Ordering::Relaxed);
    }
}
