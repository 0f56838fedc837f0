//! A limit of what a session carries, in bytes of inner packets. What leaves is held back in front of the scheduler, so that
//! it waits in the flows' queues, fairly and shortly; what arrives above the limit, from a peer that does not hold back, is
//! dropped.

use std::time::Duration;

use super::Session;
use crate::inner::{Piece, PieceKind, SegmentHeader};
use crate::settings::BytesPerSecond;
use crate::time::Instant;

/// After a pause this much of the rate's time leaves at once; a caller that comes late makes up for as much.
const BURST: Duration = Duration::from_millis(20);
/// One that waits is let go on when so much of the rate's time may leave, so that it comes in batches.
const BATCH: Duration = Duration::from_millis(1);
/// A peer may be faster than its limit by a part of this, for clocks and headers that are counted otherwise, and after a
/// pause all at once by what the limit brings in this time: what waited for a repair arrives together.
const MARGIN_PART: u64 = 10;
const MARGIN_TIME: Duration = Duration::from_millis(500);

/// The limits of both directions, and what went through. Survives the session.
#[derive(Debug, Default)]
pub(super) struct Limit {
    outgoing: Option<Bucket>,
    incoming: Option<Bucket>,
    /// Bytes of inner packets.
    sent: u64,
    received: u64,
}

/// A rate, and how much of it is used up.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    rate: BytesPerSecond,
    /// When all that passed is paid for.
    paid_at: Instant,
}

impl Bucket {
    fn new(rate: BytesPerSecond, before: Option<Self>) -> Self {
        Self {
            rate,
            paid_at: before.map_or(Instant::ZERO, |before| before.paid_at),
        }
    }

    /// Whether no more than this time of the rate is used in advance.
    fn is_open(&self, now: Instant, in_advance: Duration) -> bool {
        self.paid_at <= now + in_advance
    }

    fn use_up(&mut self, now: Instant, bytes: u64) {
        self.paid_at = self.paid_at.max(now) + Duration::from_nanos(self.rate.nanoseconds(bytes));
    }
}

impl Limit {
    /// The rate at which data may leave; none: as fast as it goes.
    pub(super) fn rate(&self) -> Option<BytesPerSecond> {
        self.outgoing.map(|bucket| bucket.rate)
    }

    fn set(&mut self, now: Instant, outgoing: Option<BytesPerSecond>, incoming: Option<BytesPerSecond>) {
        let with_margin = |rate: BytesPerSecond| BytesPerSecond(rate.0 + rate.0 / MARGIN_PART);
        self.outgoing = outgoing.map(|rate| Bucket::new(rate, self.outgoing));
        self.incoming = incoming.map(|rate| Bucket::new(with_margin(rate), self.incoming));
        if let Some(bucket) = &mut self.outgoing {
            // What a slower rate would take for long was allowed by a faster one.
            bucket.paid_at = bucket.paid_at.min(now + BURST);
        }
    }

    /// Whether a piece of new data may leave now.
    pub(super) fn allows(&self, now: Instant) -> bool {
        self.outgoing.is_none_or(|bucket| bucket.is_open(now, BURST))
    }

    /// When to ask [`Self::allows`] again, if it does not.
    pub(super) fn opens_at(&self, now: Instant) -> Option<Instant> {
        let bucket = self.outgoing.filter(|bucket| !bucket.is_open(now, BURST))?;
        Some(bucket.paid_at - (BURST - BATCH))
    }

    /// A piece of new data leaves.
    pub(super) fn left(&mut self, now: Instant, piece: &Piece) {
        let headers = match &piece.kind {
            PieceKind::Segment(segment) => headers(segment, piece.body.len()),
            PieceKind::Packet | PieceKind::Fragment { .. } | PieceKind::Skip => 0,
        };
        let bytes = (piece.body.len() + headers) as u64;
        self.sent += bytes;
        if let Some(bucket) = &mut self.outgoing {
            bucket.use_up(now, bytes);
        }
    }
}

/// Bytes of the headers of the segments that begin in a piece.
fn headers(segment: &SegmentHeader, payload: usize) -> usize {
    // Of 32 bits: small processors divide these much faster.
    let size = u32::from(segment.segment_size.max(1));
    let begun = (segment.position + payload as u32).div_ceil(size) - segment.position.div_ceil(size);
    // An acknowledgement is nothing but its header.
    segment.header.len() * if payload == 0 { 1 } else { begun as usize }
}

impl Session {
    /// Sends new data at no more than this rate, and lets no more than this and a margin arrive.
    pub(crate) fn set_limits(&mut self, outgoing: Option<BytesPerSecond>, incoming: Option<BytesPerSecond>) {
        self.limit.set(self.now, outgoing, incoming);
        self.update_bulk_target();
    }

    /// Whether a packet of the peer's may leave the tunnel here: counted either as received or as dropped.
    pub(crate) fn may_arrive(&mut self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        if let Some(bucket) = &mut self.limit.incoming {
            if !bucket.is_open(self.now, MARGIN_TIME) {
                self.dropped += 1;
                return false;
            }
            bucket.use_up(self.now, bytes);
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
    use crate::session::Side;
    use crate::settings::Mode;

    #[test]
    fn a_peer_that_does_not_hold_back_gets_its_limit_and_a_margin() {
        let mut session = Session::new(Side::Server, Mode::Speed, Instant::ZERO, 1);
        session.set_limits(None, Some(BytesPerSecond(1_000_000)));
        let mut arrived = 0;
        for millisecond in 1000..11_000 {
            session.now = Instant::from_millis(millisecond);
            arrived += if session.may_arrive(3000) { 3000 } else { 0 };
        }
        // Ten seconds, and the margin.
        assert!((10_900_000..11_700_000).contains(&arrived), "{arrived}");
        assert_eq!(session.carried(), (0, arrived));
    }
}
