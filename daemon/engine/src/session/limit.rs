//! A limit of what a session carries, in bytes of inner packets. What leaves is held back in front of the scheduler, so that
//! it waits in the flows' queues, fairly and shortly; what arrives above the limit, from a peer that does not hold back, is
//! dropped.

use std::time::Duration;

use super::Session;
use crate::inner::{Piece, PieceKind};
use crate::path::pacer::Pacer;
use crate::settings::BytesPerSecond;
use crate::time::Instant;

/// Room for one more packet must be there before a piece of whatever size is taken.
const PACKET: u64 = 1500;
/// A segment's share of headers: IPv4 and TCP with timestamps.
const SEGMENT_HEADERS: u64 = 52;
/// A peer may be faster than its limit by a part of this, for clocks and headers that are counted otherwise, and after a
/// pause all at once by what the limit brings in this time: what waited for a repair arrives together.
const MARGIN_PART: u64 = 10;
const MARGIN_TIME: Duration = Duration::from_millis(500);

/// The limits of both directions, and what went through. Survives the session.
#[derive(Debug, Default)]
pub(super) struct Limit {
    outgoing: Option<Pacer>,
    incoming: Option<Allowance>,
    /// Bytes of inner packets.
    sent: u64,
    received: u64,
}

/// What a peer may send.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    rate: BytesPerSecond,
    /// When all that came is paid for.
    paid_at: Instant,
}

impl Allowance {
    fn take(&mut self, now: Instant, bytes: u64) -> bool {
        let paid_at = self.paid_at.max(now);
        if paid_at.since(now) > MARGIN_TIME {
            return false;
        }
        self.paid_at = paid_at + Duration::from_nanos(self.rate.nanoseconds(bytes));
        true
    }
}

impl Limit {
    /// The rate at which data may leave; none: as fast as it goes.
    pub(super) fn rate(&self) -> Option<BytesPerSecond> {
        self.outgoing.as_ref().map(Pacer::rate)
    }

    fn set_outgoing(&mut self, now: Instant, rate: Option<BytesPerSecond>) {
        match (&mut self.outgoing, rate) {
            (Some(pacer), Some(rate)) => pacer.set_rate(now, rate),
            (pacer, rate) => *pacer = rate.map(Pacer::new),
        }
    }

    fn set_incoming(&mut self, rate: Option<BytesPerSecond>) {
        let with_margin = |rate: BytesPerSecond| BytesPerSecond(rate.0 + rate.0 / MARGIN_PART);
        self.incoming = rate.map(|rate| Allowance {
            rate: with_margin(rate),
            paid_at: self.incoming.map_or(Instant::ZERO, |known| known.paid_at),
        });
    }

    /// Whether a piece of new data may leave now.
    pub(super) fn allows(&self, now: Instant) -> bool {
        self.outgoing
            .as_ref()
            .is_none_or(|pacer| pacer.available(now) >= PACKET)
    }

    /// When [`Self::allows`] becomes true, if it is not.
    pub(super) fn opens_at(&mut self, now: Instant) -> Option<Instant> {
        let pacer = self.outgoing.as_mut()?;
        Some(pacer.ready_at(now, PACKET)).filter(|at| *at > now)
    }

    /// A piece of new data leaves.
    pub(super) fn left(&mut self, now: Instant, piece: &Piece) {
        let headers = match piece.kind {
            PieceKind::Segment(_) => SEGMENT_HEADERS,
            PieceKind::Packet | PieceKind::Fragment { .. } | PieceKind::Skip => 0,
        };
        let bytes = piece.body.len() as u64 + headers;
        self.sent += bytes;
        if let Some(pacer) = &mut self.outgoing {
            pacer.on_sent(now, bytes);
        }
    }

    pub(super) fn on_clock_gap(&mut self, gap: Duration) {
        if let Some(pacer) = &mut self.outgoing {
            pacer.on_clock_gap(gap);
        }
    }
}

impl Session {
    /// Sends new data at no more than this rate, and lets no more than this and a margin arrive.
    pub(crate) fn set_limits(&mut self, outgoing: Option<BytesPerSecond>, incoming: Option<BytesPerSecond>) {
        self.limit.set_outgoing(self.now, outgoing);
        self.limit.set_incoming(incoming);
        self.update_bulk_target();
    }

    /// Whether a packet of the peer's may leave the tunnel here: counted either as received or as dropped.
    pub(crate) fn may_arrive(&mut self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        if let Some(allowance) = &mut self.limit.incoming
            && !allowance.take(self.now, bytes)
        {
            self.dropped += 1;
            return false;
        }
        self.limit.received += bytes;
        true
    }

    /// Bytes of inner packets sent and received, by this session and those that it inherited from.
    pub(crate) fn carried(&self) -> (u64, u64) {
        (self.limit.sent, self.limit.received)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_does_not_hold_back_gets_its_limit_and_a_margin() {
        let mut limit = Limit::default();
        limit.set_incoming(Some(BytesPerSecond(1_000_000)));
        let allowance = limit.incoming.as_mut().expect("there is a limit");
        let start = Instant::from_millis(1000);
        let arrived: u64 = (0..10_000)
            .filter(|millisecond| allowance.take(start + Duration::from_millis(*millisecond), 3000))
            .map(|_| 3000)
            .sum();
        // Ten seconds, and the margin.
        assert!((10_900_000..11_700_000).contains(&arrived), "{arrived}");
    }
}
