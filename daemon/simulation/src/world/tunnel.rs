//! What the world wants of a tunnel's end, so that it can run the engine, or something simpler beside it.

use std::fmt::Debug;
use std::time::Duration;

use bytes::BytesMut;
use sennit_engine::ids::NetworkPath;
use sennit_engine::time::Instant;

use crate::packet::Packet;
use crate::setup::Action;

/// Datagrams for one destination, written behind one another.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing {
    /// Where they go.
    pub network: NetworkPath,
    /// Length of each but the last.
    pub segment_size: usize,
}

/// One end of a tunnel. Times are of its own clock.
pub trait TunnelEnd: Debug {
    /// A packet enters. False: it was refused or dropped at once.
    fn handle_tun(&mut self, now: Instant, packet: Packet) -> bool;
    /// Datagrams arrived.
    fn handle_udp(
        &mut self,
        now: Instant,
        network: NetworkPath,
        batch: BytesMut,
        segment_size: usize,
        marked: bool,
    );
    /// Does what is due.
    fn handle_timeout(&mut self, now: Instant);
    /// When something is due.
    fn poll_timeout(&mut self) -> Option<Instant>;
    /// Appends datagrams to `out`.
    fn poll_transmit(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Outgoing>;
    /// The next packet that leaves.
    fn poll_deliver(&mut self) -> Option<Packet>;
    /// It did not run for this long.
    fn clock_gap(&mut self, gap: Duration);
    /// Something is done to it. What concerns the other end or the WANs' plugs is the world's business.
    fn act(&mut self, now: Instant, action: &Action);
    /// A WAN is there.
    fn join(&mut self, now: Instant, wan: usize);
    /// What happened since the last call, for logs and checks.
    fn events(&mut self) -> Vec<String>;
    /// What it knows.
    fn knowledge(&self, now: Instant) -> Knowledge;
}

/// What an end knows, for traces, reports and checks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Knowledge {
    /// It has a session.
    pub connected: bool,
    /// Of each path.
    pub paths: Vec<PathKnowledge>,
    /// Bytes that wait for a path.
    pub backlog: u64,
    /// Bytes sent and not acknowledged.
    pub unacknowledged: u64,
    /// Packets dropped on entry or by queue management.
    pub dropped: u64,
    /// Bytes that wait in the resequencer.
    pub held: u64,
    /// What the resequencer counted.
    pub resequencer: String,
}

/// What an end knows of a path.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PathKnowledge {
    /// Which WAN.
    pub wan: usize,
    /// Its state.
    pub condition: &'static str,
    /// Estimated rate, bytes per second.
    pub rate: u64,
    /// Bytes allowed in flight.
    pub window: u64,
    /// Bytes in flight.
    pub in_flight: u64,
    /// Own queue, estimated.
    pub queue: Duration,
    /// Smoothed round trip.
    pub round_trip: Duration,
    /// State of its congestion control.
    pub congestion: &'static str,
    /// Datagrams sent.
    pub sent: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Packets lost.
    pub lost: u64,
    /// Packets wrongly taken for lost.
    pub spurious: u64,
    /// Bytes sent here to repair losses elsewhere.
    pub repair_bytes: u64,
    /// Bytes sent here beside another path.
    pub copy_bytes: u64,
    /// Bytes of parity sent here.
    pub parity_bytes: u64,
    /// Datagrams from the peer that were lost here and computed from its parity.
    pub recovered: u64,
    /// How often it was suspected.
    pub suspicions: u64,
    /// How often it was given up.
    pub deaths: u64,
}
