//! What the engine tells its caller: events as they happen, and the state on request.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::crypto::Suite;
use crate::ids::{ClientId, NetworkPath, PathId, WanId};
use crate::path::state::Condition;
use crate::resequencer::Statistics;
use crate::settings::{BytesPerSecond, Mode, Priority};
use crate::wire::frame::CloseReason;

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The server answered and its first authenticated data arrived.
    Connected {
        /// The client's inner addresses with their prefix lengths.
        addresses: Vec<(IpAddr, u8)>,
        /// The server's inner addresses.
        gateways: Vec<IpAddr>,
        /// True if both ends still knew the session: nothing was lost.
        resumed: bool,
    },
    /// No path answers any more; the client keeps trying.
    Disconnected,
    /// The other end said that it leaves; the client keeps trying.
    PeerLeft(CloseReason),
    /// A path changed its state.
    PathChanged {
        /// Its WAN.
        wan: WanId,
        /// The path.
        path: PathId,
        /// The new state.
        state: Condition,
        /// Why.
        why: &'static str,
    },
    /// On a server: a client's first authenticated data under a new session.
    ClientConnected {
        /// Which client.
        client: ClientId,
        /// True if both ends still knew the session.
        resumed: bool,
    },
    /// A message of the peer's program, as it was handed to `send_control` there.
    Control {
        /// The message.
        message: Bytes,
    },
    /// On a server: a path of a client has a new address on the other side (NAT rebinding).
    PathMoved {
        /// The path.
        path: PathId,
        /// Where it leads now.
        network: NetworkPath,
    },
}

/// One path, now.
#[derive(Clone, Debug)]
pub struct PathStatus {
    /// The path.
    pub id: PathId,
    /// Its WAN (on a server: the number of the path).
    pub wan: WanId,
    /// Where it leads.
    pub network: NetworkPath,
    /// Its condition.
    pub condition: Condition,
    /// Why it is used, idle or out.
    pub why: &'static str,
    /// The WAN's priority.
    pub priority: Priority,
    /// Smoothed round trip, if one was measured.
    pub rtt: Option<Duration>,
    /// Smallest round trip of the last seconds.
    pub rtt_minimum: Option<Duration>,
    /// One-way delay to the peer in nanoseconds, relative: only differences between paths mean something.
    pub one_way: Option<i64>,
    /// The part of it that is queue.
    pub queue: Duration,
    /// Estimated delivery rate to the peer.
    pub rate: BytesPerSecond,
    /// Bytes that may be in flight.
    pub window: u64,
    /// Bytes in flight.
    pub in_flight: u64,
    /// Congestion control's state.
    pub congestion: &'static str,
    /// Largest IP packet that passes, bytes.
    pub mtu: u16,
    /// What went over it.
    pub counters: PathCounters,
}

/// What went over a path since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathCounters {
    /// Datagrams sent.
    pub sent: u64,
    /// Their bytes, IP headers included.
    pub sent_bytes: u64,
    /// Datagrams received and authenticated.
    pub received: u64,
    /// Their bytes, IP headers included.
    pub received_bytes: u64,
    /// Packets that were sent and never acknowledged.
    pub lost: u64,
    /// Packets that were taken for lost and were not.
    pub spurious: u64,
    /// Bytes of data sent here because another path lost them.
    pub repair_bytes: u64,
    /// Bytes of data sent here although another path carries them too.
    pub copy_bytes: u64,
    /// Bytes of parity sent here.
    pub parity_bytes: u64,
    /// Datagrams from the peer that were lost here, and computed from its parity.
    pub recovered: u64,
    /// How often it fell silent for longer than it should.
    pub suspicions: u64,
    /// How often it was given up.
    pub deaths: u64,
}

/// A session, now.
#[derive(Clone, Debug)]
pub struct SessionStatus {
    /// True once data can flow.
    pub connected: bool,
    /// How packets are spread.
    pub mode: Mode,
    /// How datagrams are sealed; none before the first handshake.
    pub suite: Option<Suite>,
    /// Its paths.
    pub paths: Vec<PathStatus>,
    /// Bytes that wait for a path.
    pub backlog: u64,
    /// Bytes sent and not yet acknowledged.
    pub unacknowledged: u64,
    /// Packets that entered the tunnel here.
    pub packets_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Packets dropped on entry or by queue management.
    pub dropped: u64,
    /// Bytes that wait here for what belongs before them.
    pub held: u64,
    /// What left the tunnel here.
    pub resequencer: Statistics,
}
