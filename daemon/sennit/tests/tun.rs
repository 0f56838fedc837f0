//! TUN devices with segmentation offload: a TCP connection runs through two of them that the test joins.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::BytesMut;
use common::{Namespace, wait};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sennit::config::InterfaceName;
use sennit::tun::{HEADER, READ, Tun};

/// Bytes that the test sends.
const AMOUNT: usize = 20_000_000;

fn tun(namespace: &Namespace, address: &str) -> Tun {
    let tun = namespace.enter(|| Tun::create(&InterfaceName::default()).unwrap());
    namespace.run(&format!("ip addr add {address} dev sennit0"));
    tun
}

/// Carries packets, with their headers, from each device to the other one. Returns the largest that it saw, bytes.
fn shovel(first: &Tun, second: &Tun, stop: &AtomicBool, largest: &AtomicUsize) {
    let mut buffer = BytesMut::with_capacity(READ);
    let moment = Timespec {
        tv_sec: 0,
        tv_nsec: 20_000_000,
    };
    while !stop.load(Ordering::Relaxed) {
        let mut both = [
            PollFd::new(first, PollFlags::IN),
            PollFd::new(second, PollFlags::IN),
        ];
        poll(&mut both, Some(&moment)).unwrap();
        for (from, to) in [(first, second), (second, first)] {
            buffer.clear();
            while let Ok(length) = from.receive(&mut buffer) {
                largest.fetch_max(length - HEADER, Ordering::Relaxed);
                let (header, packet) = buffer.split_at(HEADER);
                to.send(&[IoSlice::new(header), IoSlice::new(packet)]).unwrap();
                buffer.clear();
            }
        }
    }
}

#[test]
fn tcp_passes_in_pieces_larger_than_the_mtu() {
    let (Some(left), Some(right)) = (Namespace::new(), Namespace::new()) else {
        return;
    };
    let (first, second) = (tun(&left, "10.1.1.1/24"), tun(&right, "10.1.1.2/24"));
    assert!(first.index() > 0 && left.has_interface("sennit0"));
    let (stop, largest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let carrier = {
        let (stop, largest) = (Arc::clone(&stop), Arc::clone(&largest));
        std::thread::spawn(move || shovel(&first, &second, &stop, &largest))
    };
    let listener = right.enter(|| TcpListener::bind("10.1.1.2:0").unwrap());
    let to = listener.local_addr().unwrap();
    let mut sender = left.enter(|| TcpStream::connect(to).unwrap());
    let (mut receiver, _) = listener.accept().unwrap();
    let data: Vec<u8> = (0..AMOUNT).map(|index| (index % 253) as u8).collect();
    let expected = data.clone();
    let writer = std::thread::spawn(move || sender.write_all(&data).unwrap());
    let mut received = Vec::new();
    receiver.read_to_end(&mut received).unwrap();
    writer.join().unwrap();
    assert!(received == expected);
    stop.store(true, Ordering::Relaxed);
    carrier.join().unwrap();
    let largest = largest.load(Ordering::Relaxed);
    assert!(largest > 20_000, "no packet was larger than {largest} bytes");
}

#[test]
fn the_interface_outlives_its_process_and_is_removed_by_name() {
    let Some(namespace) = Namespace::new() else { return };
    let name = InterfaceName::default();
    namespace.enter(|| {
        drop(Tun::create(&name).unwrap());
        // A program that another test has just started may hold a copy of the descriptor until it runs.
        let mut again = None;
        wait("the interface is free again", || {
            again = Tun::create(&name).ok();
            again.is_some()
        });
        let refused = Tun::create(&name).unwrap_err();
        assert_eq!(refused.to_string(), "the interface sennit0 is already in use");
        assert!(Tun::remove(&name).is_err());
        drop(again);
    });
    assert!(namespace.has_interface("sennit0"));
    namespace.enter(|| {
        assert!(Tun::remove(&name).unwrap());
        assert!(!Tun::remove(&name).unwrap());
    });
    assert!(!namespace.has_interface("sennit0"));
}
