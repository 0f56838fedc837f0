//! How large a packet the path carries: probes upwards, and notices when large ones stop arriving.
//!
//! Sizes inside are whole IP packets; the session asks for UDP payloads. A probe is a datagram padded to
//! [`MtuDiscovery::probe_size`]; losing one says nothing about congestion.

use std::time::Duration;

use crate::time::Instant;

/// What every path is taken to carry.
pub const SMALLEST: usize = 1200;
/// Where a path begins: what IPv6 guarantees.
const START: usize = 1280;
/// What most links carry, and PPPoE: tried before any search.
const USUAL: [usize; 2] = [1500, 1492];
/// The search ends when the largest that passed and the smallest that did not are this near.
const PRECISION: usize = 4;
/// A size has failed after this many lost probes.
const ATTEMPTS: u8 = 3;
/// A black hole is where all large packets of a while are lost, so many at least, while so many small ones arrive. A
/// full queue swallows large packets too, for a round trip or so; but then some of them pass.
const BLACK_HOLE_LARGE: u8 = 6;
const BLACK_HOLE_SMALL: u8 = 2;
const BLACK_HOLE_TIME: Duration = Duration::from_millis(200);
const RETRY_FIRST: Duration = Duration::from_secs(10);
const RETRY_LONGEST: Duration = Duration::from_secs(600);

/// Finds the largest packet that one path carries.
#[derive(Clone, Debug)]
pub struct MtuDiscovery {
    headers: usize,
    largest: usize,
    current: usize,
    /// Smallest size that did not pass.
    failed: usize,
    attempts: u8,
    /// Size on its way.
    outstanding: Option<usize>,
    /// Nothing to find until then.
    next_search: Instant,
    retry: Duration,
    /// Large packets lost since one arrived, and when the first of them left.
    large_lost: u8,
    first_lost: Instant,
    /// Small ones that left later and arrived.
    small_since: u8,
}

impl MtuDiscovery {
    /// A path over IPv4 or IPv6 whose link carries at most `largest` (1500 where nothing else is known).
    pub fn new(ipv6: bool, largest: usize) -> Self {
        let largest = largest.max(SMALLEST);
        Self {
            headers: if ipv6 { 48 } else { 28 },
            largest,
            current: START.min(largest),
            failed: largest + 1,
            attempts: 0,
            outstanding: None,
            next_search: Instant::ZERO,
            retry: RETRY_FIRST,
            large_lost: 0,
            first_lost: Instant::ZERO,
            small_since: 0,
        }
    }

    /// Largest UDP payload that passes, bytes.
    pub fn current(&self) -> usize {
        self.current - self.headers
    }

    /// Largest IP packet that passes, bytes.
    pub fn current_packet(&self) -> usize {
        self.current
    }

    /// UDP payload of the next probe, if one should leave now.
    pub fn probe_size(&self, now: Instant) -> Option<usize> {
        if self.outstanding.is_some() || now < self.next_search {
            return None;
        }
        self.candidate().map(|packet| packet - self.headers)
    }

    /// When the next probe is wanted, if none is on its way.
    pub fn deadline(&self) -> Option<Instant> {
        (self.outstanding.is_none() && self.candidate().is_some()).then_some(self.next_search)
    }

    /// A probe with this UDP payload left.
    pub fn on_probe_sent(&mut self, payload: usize) {
        self.outstanding = Some(payload + self.headers);
    }

    /// A probe with this UDP payload arrived.
    pub fn on_probe_acked(&mut self, now: Instant, payload: usize) {
        let packet = payload + self.headers;
        if self.outstanding == Some(packet) {
            self.outstanding = None;
            self.attempts = 0;
        }
        if packet > self.current && packet < self.failed {
            self.current = packet;
            self.large_lost = 0;
        }
        self.finish_search(now);
    }

    /// A probe with this UDP payload was lost.
    pub fn on_probe_lost(&mut self, now: Instant, payload: usize) {
        let packet = payload + self.headers;
        if self.outstanding != Some(packet) {
            return;
        }
        self.outstanding = None;
        self.attempts += 1;
        if self.attempts >= ATTEMPTS {
            self.fail(now, packet);
        }
    }

    /// The kernel refused a datagram with this UDP payload as too large.
    pub fn on_too_big(&mut self, now: Instant, payload: usize) {
        let packet = payload + self.headers;
        if self.outstanding == Some(packet) {
            self.outstanding = None;
        }
        if packet <= self.current {
            self.current = SMALLEST;
        }
        self.fail(now, packet);
    }

    /// A datagram with this UDP payload, no probe, that left at `sent`, arrived.
    pub fn on_acked(&mut self, sent: Instant, payload: usize) {
        if payload + self.headers > SMALLEST {
            self.large_lost = 0;
            self.small_since = 0;
        } else if self.large_lost > 0 && sent > self.first_lost {
            self.small_since = self.small_since.saturating_add(1);
        }
    }

    /// A datagram with this UDP payload, no probe, that left at `sent`, was lost. True if this shows a black hole: the
    /// size fell, and the large ones that were lost say nothing about congestion.
    pub fn on_lost(&mut self, now: Instant, sent: Instant, payload: usize, round_trip: Duration) -> bool {
        if payload + self.headers <= SMALLEST {
            // Not the size is the reason.
            self.large_lost = 0;
            self.small_since = 0;
            return false;
        }
        if self.large_lost == 0 {
            self.first_lost = sent;
        }
        self.large_lost = self.large_lost.saturating_add(1);
        let lasting = sent.since(self.first_lost) >= BLACK_HOLE_TIME.max(2 * round_trip);
        if self.large_lost < BLACK_HOLE_LARGE
            || self.small_since < BLACK_HOLE_SMALL
            || !lasting
            || self.current == SMALLEST
        {
            return false;
        }
        self.failed = self.current;
        self.current = SMALLEST;
        self.large_lost = 0;
        self.small_since = 0;
        self.pause(now);
        true
    }

    /// All deadlines move: the caller did not run for that long.
    pub fn on_clock_gap(&mut self, gap: Duration) {
        self.next_search += gap;
    }

    /// The next size to try.
    fn candidate(&self) -> Option<usize> {
        let untried = USUAL
            .into_iter()
            .chain([self.largest])
            .filter(|&size| size > self.current && size <= self.largest && size < self.failed)
            .max();
        if self.failed > self.largest || untried.is_some_and(|size| self.failed - size > PRECISION) {
            return untried;
        }
        (self.failed - self.current > PRECISION).then(|| (self.current + self.failed) / 2)
    }

    fn fail(&mut self, now: Instant, packet: usize) {
        self.attempts = 0;
        self.failed = self.failed.min(packet).max(self.current + 1);
        self.finish_search(now);
    }

    /// The search is over for now when nothing is left to try; later the path may carry more.
    fn finish_search(&mut self, now: Instant) {
        if self.current < self.largest && self.candidate().is_none() {
            self.pause(now);
        }
    }

    fn pause(&mut self, now: Instant) {
        self.next_search = now + self.retry;
        self.retry = (self.retry * 2).min(RETRY_LONGEST);
        self.failed = self.largest + 1;
        self.attempts = 0;
        self.outstanding = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Probes a path that carries `limit` until the discovery rests; returns the number of probes.
    fn search(mtu: &mut MtuDiscovery, now: Instant, limit: usize) -> usize {
        let mut probes = 0;
        while let Some(payload) = mtu.probe_size(now) {
            probes += 1;
            assert!(probes < 100, "no end");
            mtu.on_probe_sent(payload);
            assert_eq!(mtu.probe_size(now), None, "one at a time");
            if payload + mtu.headers <= limit {
                mtu.on_probe_acked(now, payload);
            } else {
                mtu.on_probe_lost(now, payload);
            }
        }
        probes
    }

    #[test]
    fn finds_every_size_within_four_bytes() {
        for limit in SMALLEST..=1500 {
            let mut mtu = MtuDiscovery::new(false, 1500);
            let probes = search(&mut mtu, Instant::ZERO, limit);
            assert!(
                mtu.current_packet() <= limit.max(START),
                "{limit}: {}",
                mtu.current_packet()
            );
            assert!(
                mtu.current_packet() + PRECISION >= limit,
                "{limit}: {} after {probes}",
                mtu.current_packet()
            );
        }
    }

    #[test]
    fn ethernet_takes_one_probe_and_pppoe_four() {
        let mut mtu = MtuDiscovery::new(false, 1500);
        assert_eq!(search(&mut mtu, Instant::ZERO, 1500), 1);
        assert_eq!(mtu.current(), 1472);
        let mut mtu = MtuDiscovery::new(true, 1500);
        search(&mut mtu, Instant::ZERO, 1492);
        assert_eq!(mtu.current(), 1444);
    }

    #[test]
    fn a_black_hole_drops_to_the_smallest_and_is_tried_again_later() {
        let mut mtu = MtuDiscovery::new(false, 1500);
        search(&mut mtu, Instant::ZERO, 1500);
        let mut now = Instant::from_millis(5_000);
        let mut fell = false;
        while !fell {
            mtu.on_acked(now, 100);
            fell = mtu.on_lost(now, now, 1472, Duration::from_millis(30));
            now += Duration::from_millis(10);
        }
        assert_eq!(now, Instant::from_millis(5_210));
        assert_eq!(mtu.current(), 1172);
        assert_eq!(mtu.probe_size(now), None);
        let later = now + RETRY_FIRST;
        search(&mut mtu, later, 1400);
        assert!(mtu.current_packet() >= 1396 && mtu.current_packet() <= 1400);
    }

    #[test]
    fn random_loss_is_no_black_hole() {
        let mut mtu = MtuDiscovery::new(false, 1500);
        search(&mut mtu, Instant::ZERO, 1500);
        let mut state: u64 = 7;
        for step in 0..100_000 {
            let now = Instant::from_millis(step);
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let size = if state >> 60 < 4 { 100 } else { 1472 };
            if (state >> 33) % 100 < 10 {
                assert!(!mtu.on_lost(now, now, size, Duration::from_millis(30)));
            } else {
                mtu.on_acked(now, size);
            }
        }
        assert_eq!(mtu.current(), 1472);
    }

    #[test]
    fn a_full_queue_that_small_packets_still_fit_is_no_black_hole() {
        let mut mtu = MtuDiscovery::new(false, 1500);
        search(&mut mtu, Instant::ZERO, 1500);
        for round in 0..1000u64 {
            // For most of each round trip large packets find no room.
            for step in 0..100 {
                let sent = Instant::from_millis(round * 120 + step);
                mtu.on_acked(sent, 100);
                assert!(!mtu.on_lost(sent, sent, 1472, Duration::from_millis(100)));
            }
            mtu.on_acked(Instant::from_millis(round * 120 + 110), 1472);
        }
        assert_eq!(mtu.current(), 1472);
    }

    #[test]
    fn the_kernels_refusal_counts_at_once() {
        let mut mtu = MtuDiscovery::new(false, 1500);
        let payload = mtu.probe_size(Instant::ZERO).unwrap();
        mtu.on_probe_sent(payload);
        mtu.on_too_big(Instant::ZERO, payload);
        assert_eq!(mtu.probe_size(Instant::ZERO), Some(1492 - 28));
    }
}
