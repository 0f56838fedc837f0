//! What a run consists of: WANs, flows, clocks, and what happens when. A scenario is a function that makes one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use sennit_engine::settings::{Limits, Mode, Priority, WanSettings};
use sennit_engine::time::Instant;

use crate::network::{LinkSettings, NatSettings, Rate, megabits};
use crate::packet::Ends;
use crate::transport::End;
use crate::transport::datagram::{Ping, RealtimeReceiver, RealtimeSender, RealtimeSettings, Reflector};
use crate::transport::quic::{QuicReceiver, QuicSender};
use crate::transport::tcp::{Algorithm, Receiver, Sender, SenderSettings};

/// One of the two ends of the tunnel, and what lies behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The router, with the LAN behind it.
    Client,
    /// The server, with the internet behind it.
    Server,
}

impl Side {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Client, Self::Server];

    /// The opposite end.
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// Which way a flow's data go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the LAN to the internet.
    Up,
    /// To the LAN.
    Down,
}

/// One WAN.
#[derive(Clone, Debug)]
pub struct Wan {
    /// From client to server.
    pub up: LinkSettings,
    /// From server to client.
    pub down: LinkSettings,
    /// Its address translator.
    pub nat: NatSettings,
    /// What the client is told of it.
    pub settings: WanSettings,
    /// When it is plugged in.
    pub joins: Duration,
}

impl Wan {
    /// The same in both directions: Mbit/s, one-way milliseconds, queue in thousands of bytes.
    pub fn new(rate: f64, delay: u64, queue: u64) -> Self {
        let link = LinkSettings::new(megabits(rate), Duration::from_millis(delay), queue * 1000);
        Self {
            up: link.clone(),
            down: link,
            nat: NatSettings::default(),
            settings: WanSettings::default(),
            joins: Duration::ZERO,
        }
    }

    /// With a change to both directions.
    #[must_use]
    pub fn with(mut self, change: impl Fn(&mut LinkSettings)) -> Self {
        change(&mut self.up);
        change(&mut self.down);
        self
    }

    /// With another rate from client to server, in Mbit/s.
    #[must_use]
    pub fn uplink(mut self, rate: f64) -> Self {
        self.up.rate = Rate::constant(megabits(rate));
        self
    }

    /// With a priority.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.settings.priority = priority;
        self
    }
}

/// What a flow does.
#[derive(Clone, Copy, Debug)]
pub enum FlowKind {
    /// A TCP transfer; without a length it never ends.
    Tcp(Algorithm, Option<u64>),
    /// A QUIC-like transfer.
    Quic(Algorithm, Option<u64>),
    /// UDP at a constant pace: time between packets, payload bytes, DSCP.
    Realtime(Duration, usize, u8),
    /// Echo requests, one each interval, and their replies.
    Ping(Duration),
}

/// How a flow gets to the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// Through the tunnel.
    Tunnel,
    /// Beside it, over this WAN.
    Wan(usize),
}

/// One flow.
#[derive(Clone, Debug)]
pub struct Flow {
    /// What it does.
    pub kind: FlowKind,
    /// Which way.
    pub direction: Direction,
    /// When it begins.
    pub start: Duration,
    /// When it sends nothing new any more.
    pub end: Duration,
    /// One-way delay between server and host.
    pub origin: Duration,
    /// IPv6 instead of IPv4.
    pub v6: bool,
    /// How it gets there.
    pub via: Via,
    /// Whether its host makes super-segments.
    pub super_segments: bool,
}

impl Flow {
    /// From the beginning, when the tunnel is up, to the end of the run, to a host beside the server.
    pub fn new(kind: FlowKind, direction: Direction) -> Self {
        Self {
            kind,
            direction,
            start: Duration::from_millis(500),
            end: Duration::MAX,
            origin: Duration::ZERO,
            v6: false,
            via: Via::Tunnel,
            super_segments: true,
        }
    }

    /// A TCP transfer without end.
    pub fn tcp(algorithm: Algorithm, direction: Direction) -> Self {
        Self::new(FlowKind::Tcp(algorithm, None), direction)
    }

    /// 20 pings a second.
    pub fn ping() -> Self {
        Self::new(FlowKind::Ping(Duration::from_millis(50)), Direction::Up)
    }

    /// Beginning later.
    #[must_use]
    pub fn from(mut self, seconds: f64) -> Self {
        self.start = Duration::from_secs_f64(seconds);
        self
    }

    /// Whether it takes what it can get.
    pub fn is_bulk(&self) -> bool {
        matches!(self.kind, FlowKind::Tcp(..) | FlowKind::Quic(..))
    }

    /// A short name.
    pub fn name(&self) -> String {
        let direction = match self.direction {
            Direction::Up => "up",
            Direction::Down => "down",
        };
        let what = match self.kind {
            FlowKind::Tcp(algorithm, _) => format!("tcp {algorithm:?}").to_lowercase(),
            FlowKind::Quic(algorithm, _) => format!("quic {algorithm:?}").to_lowercase(),
            FlowKind::Realtime(interval, size, _) => {
                format!("realtime {size} B / {:.1} ms", interval.as_secs_f64() * 1e3)
            }
            FlowKind::Ping(_) => "ping".to_owned(),
        };
        match self.via {
            Via::Tunnel => format!("{what} {direction}"),
            Via::Wan(wan) => format!("{what} {direction}, beside the tunnel on wan {wan}"),
        }
    }

    /// The ends of the flow number `index`: on the LAN and on the internet.
    pub fn ends(&self, index: u16) -> [Box<dyn End>; 2] {
        let (near, far) = addresses(self.v6, index);
        let upward = Ends {
            source: near,
            destination: far,
        };
        let ends = match self.direction {
            Direction::Up => upward,
            Direction::Down => upward.reversed(),
        };
        let start = Instant::ZERO + self.start;
        let realtime = |interval, size, dscp| RealtimeSettings {
            start,
            end: Instant::ZERO + self.end,
            interval,
            size,
            dscp,
        };
        let (sender, receiver): (Box<dyn End>, Box<dyn End>) = match self.kind {
            FlowKind::Tcp(algorithm, length) => {
                let settings = SenderSettings {
                    algorithm,
                    start,
                    length,
                    super_segments: self.super_segments,
                };
                (
                    Box::new(Sender::new(index, ends, settings)),
                    Box::new(Receiver::new(index, ends.reversed())),
                )
            }
            FlowKind::Quic(algorithm, length) => (
                Box::new(QuicSender::new(index, ends, algorithm, start, length)),
                Box::new(QuicReceiver::new(index, ends.reversed())),
            ),
            FlowKind::Realtime(interval, size, dscp) => (
                Box::new(RealtimeSender::new(index, ends, realtime(interval, size, dscp))),
                Box::new(RealtimeReceiver::new(index)),
            ),
            FlowKind::Ping(interval) => (
                Box::new(Ping::new(index, ends, realtime(interval, 56, 0))),
                Box::new(Reflector),
            ),
        };
        match self.direction {
            Direction::Up => [sender, receiver],
            Direction::Down => [receiver, sender],
        }
    }
}

/// First port of LAN hosts; flow numbers are counted from it.
pub const FIRST_PORT: u16 = 10_000;

/// Addresses of the flow number `index`: on the LAN and on the internet.
pub fn addresses(v6: bool, index: u16) -> (SocketAddr, SocketAddr) {
    let host = 10 + index % 200;
    let (near, far): (IpAddr, IpAddr) = if v6 {
        (
            Ipv6Addr::new(0xfd07, 0, 0, 0, 0, 0, 0, 2).into(),
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host).into(),
        )
    } else {
        (
            Ipv4Addr::new(10, 7, 0, 2).into(),
            Ipv4Addr::new(192, 0, 2, host as u8).into(),
        )
    };
    (
        SocketAddr::new(near, FIRST_PORT + index),
        SocketAddr::new(far, 443),
    )
}

/// The clock of one end. It never goes back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// What it shows at the start of the run.
    pub offset: Duration,
    /// Parts per million that it is too fast.
    pub drift: f64,
    /// When it jumps ahead, and by how much.
    pub jump: Option<(Duration, Duration)>,
}

impl Clock {
    /// What it shows.
    pub fn local(&self, now: Instant) -> Instant {
        let jumped = match self.jump {
            Some((at, by)) if Instant::ZERO + at <= now => by,
            _ => Duration::ZERO,
        };
        Instant::from_nanos(self.drifted(now.as_nanos())) + self.offset + jumped
    }

    /// When it shows `local` or more for the first time.
    pub fn global(&self, local: Instant) -> Instant {
        match self.jump {
            Some((at, by)) => {
                let jump = Instant::ZERO + at;
                let without = self.invert(local, Duration::ZERO);
                if without < jump {
                    without
                } else {
                    self.invert(local, by).max(jump)
                }
            }
            None => self.invert(local, Duration::ZERO),
        }
    }

    fn drifted(&self, passed: u64) -> u64 {
        passed.saturating_add_signed((passed as f64 * self.drift / 1e6) as i64)
    }

    fn invert(&self, local: Instant, jumped: Duration) -> Instant {
        let passed = local.since(Instant::ZERO + self.offset + jumped).as_nanos() as u64;
        let mut guess = (passed as f64 / (1.0 + self.drift / 1e6)) as u64;
        while self.drifted(guess) < passed {
            guess += 1 + (passed - self.drifted(guess)) / 2;
        }
        Instant::from_nanos(guess)
    }
}

/// A time in which one end does not run.
#[derive(Clone, Copy, Debug)]
pub struct Pause {
    /// Which end.
    pub side: Side,
    /// When it begins.
    pub from: Duration,
    /// How long it takes.
    pub length: Duration,
    /// Asleep: what arrives is lost. Otherwise it is only kept from the processor, and sockets hold what arrives.
    pub asleep: bool,
}

/// Something done to the ends during a run.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    /// Another mode.
    Mode(Mode),
    /// Other settings of a WAN.
    Settings(usize, WanSettings),
    /// The client's kernel says that a WAN's link went down (false) or came up.
    Link(usize, bool),
    /// A WAN is unplugged.
    Unplug(usize),
    /// The program of one end is killed and started anew.
    Restart(Side),
    /// Other limits of the client, known to both ends at once.
    Limits(Limits),
}

/// A run.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Virtual time in which flows send.
    pub length: Duration,
    /// Virtual time after that in which what is under way may end.
    pub drain: Duration,
    /// The WANs.
    pub wans: Vec<Wan>,
    /// The flows.
    pub flows: Vec<Flow>,
    /// How packets are spread.
    pub mode: Mode,
    /// Clocks of client and server.
    pub clocks: [Clock; 2],
    /// When ends do not run; in order of time.
    pub pauses: Vec<Pause>,
    /// What is done; in order of time.
    pub actions: Vec<(Duration, Action)>,
    /// From when on the weather is fair: every link lives, nothing changes.
    pub clear_from: Duration,
    /// No loss, no death, no reordering at all: the bond must bring everything in order.
    pub fair: bool,
    /// Loss and delay variation are such that no path may be taken for dead, and few may be suspected.
    pub calm: bool,
    /// At all times at least one link passes packets both ways, and no end restarts: nothing may be lost.
    pub survivable: bool,
}

impl Setup {
    /// A run over some WANs, without flows.
    pub fn new(seconds: f64, wans: Vec<Wan>) -> Self {
        Self {
            length: Duration::from_secs_f64(seconds),
            drain: Duration::from_secs(5),
            wans,
            flows: Vec::new(),
            mode: Mode::Speed,
            clocks: [
                Clock {
                    offset: Duration::from_secs(1000),
                    ..Clock::default()
                },
                Clock {
                    offset: Duration::from_secs(77_777),
                    ..Clock::default()
                },
            ],
            pauses: Vec::new(),
            actions: Vec::new(),
            clear_from: Duration::ZERO,
            fair: false,
            calm: true,
            survivable: true,
        }
    }

    /// With a flow more.
    #[must_use]
    pub fn flow(mut self, flow: Flow) -> Self {
        self.flows.push(flow);
        self
    }

    /// With flows that do not use the tunnel, but one WAN directly: what one compares with.
    #[must_use]
    pub fn directly(mut self, wan: usize) -> Self {
        for flow in &mut self.flows {
            flow.via = Via::Wan(wan);
        }
        self
    }

    /// What is unusual about it, a line each, for reports.
    pub fn circumstances(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.mode != Mode::Speed {
            lines.push(format!("mode {:?}", self.mode));
        }
        for (number, wan) in self.wans.iter().enumerate() {
            if wan.settings != WanSettings::default() || wan.joins > Duration::ZERO {
                lines.push(format!(
                    "wan {number} joins at {:?}, {:?}",
                    wan.joins, wan.settings
                ));
            }
            if !wan.nat.rebinds.is_empty() || wan.nat.forgets_after.is_some() {
                lines.push(format!("wan {number} {:?}", wan.nat));
            }
            for (direction, link) in [("up", &wan.up), ("down", &wan.down)] {
                let mut words = String::new();
                for outage in &link.outages {
                    words += &format!(" dead {:?} to {:?}", outage.from, outage.until);
                }
                for (at, change) in &link.changes {
                    words += &format!(" at {at:?} {change:?}");
                }
                for (name, there) in [
                    ("jitter", link.jitter.map(|jitter| format!("{jitter:?}"))),
                    (
                        "reordering",
                        link.reordering.map(|reordering| format!("{reordering:?}")),
                    ),
                    ("policer", link.policer.map(|policer| format!("{policer:?}"))),
                    (
                        "duplication",
                        (link.duplication > 0.0).then(|| format!("{:.4}", link.duplication)),
                    ),
                    (
                        "corruption",
                        (link.corruption > 0.0).then(|| format!("{:.4}", link.corruption)),
                    ),
                ] {
                    if let Some(there) = there {
                        words += &format!(" {name} {there}");
                    }
                }
                lines.push(format!(
                    "wan {number} {direction} {:?} {:?}{words}",
                    link.delay, link.loss
                ));
            }
        }
        for pause in &self.pauses {
            lines.push(format!("{pause:?}"));
        }
        for (at, action) in &self.actions {
            lines.push(format!("at {at:?} {action:?}"));
        }
        lines
    }

    /// Payload that one TCP flow could carry at best, in bytes: all links full, minus loss and headers.
    pub fn ideal(&self, direction: Direction, from: Instant, to: Instant) -> f64 {
        (self.wans.iter())
            .filter(|wan| wan.settings.priority != Priority::Off)
            .map(|wan| {
                let link = match direction {
                    Direction::Up => &wan.up,
                    Direction::Down => &wan.down,
                };
                let from = from.max(Instant::ZERO + wan.joins);
                let policed = link.policer.map_or(f64::INFINITY, |policer| {
                    policer.rate * to.since(from).as_secs_f64()
                });
                let capacity = link.rate.capacity(from, to).min(policed);
                capacity * (1.0 - link.loss.share()) * 1448.0 / 1514.0
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_drift_and_jump_and_can_be_inverted() {
        let clock = Clock {
            offset: Duration::from_secs(5),
            drift: -200.0,
            jump: Some((Duration::from_secs(10), Duration::from_secs(3))),
        };
        for milliseconds in [0, 1, 777, 9_999, 10_000, 10_001, 500_000] {
            let now = Instant::from_millis(milliseconds);
            let found = clock.global(clock.local(now));
            let error = found.since(now) + now.since(found);
            assert!(error < Duration::from_micros(1), "{milliseconds}: {error:?}");
            assert!(clock.local(found) >= clock.local(now));
        }
        // What the clock never shows, because it jumps over it, is past after the jump.
        let skipped = clock.global(Instant::from_millis(16_000));
        assert_eq!(skipped, Instant::from_millis(10_000));
    }
}
