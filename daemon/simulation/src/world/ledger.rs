//! Books of what entered and left the tunnel, to find what was delivered twice or never.

use std::collections::BTreeMap;

use crate::packet::{ACK, Body, FIN, SYN, View};

/// A set of offsets, as ranges.
#[derive(Clone, Debug, Default)]
pub struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Adds a range; returns how many of its offsets were there before.
    pub fn insert(&mut self, from: u64, to: u64) -> u64 {
        let (mut start, mut end, mut known) = (from, to, 0);
        while let Some((block, block_end)) = self.0.range(..=end).next_back().map(|(from, to)| (*from, *to))
            && block_end >= start
        {
            known += block_end.min(to).saturating_sub(block.max(from));
            start = start.min(block);
            end = end.max(block_end);
            self.0.remove(&block);
        }
        self.0.insert(start, end);
        known
    }

    /// Whether all of a range is there.
    pub fn contains(&self, from: u64, to: u64) -> bool {
        (self.0.range(..=from).next_back()).is_some_and(|(_, end)| *end >= to)
    }

    /// The parts of a range that are there.
    pub fn overlap(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let first = self
            .0
            .range(..=from)
            .next_back()
            .map_or(from, |(start, _)| *start);
        (self.0.range(first..to))
            .map(|(start, end)| (from.max(*start), to.min(*end)))
            .filter(|(start, end)| start < end)
            .collect()
    }

    /// How many ranges.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// How many offsets.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|(from, to)| to - from).sum()
    }
}

/// One direction of one flow.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Packets that entered.
    pub packets_in: u64,
    /// Payload bytes of TCP, or all of other packets, that entered.
    pub bytes_in: u64,
    /// Packets that left.
    pub packets_out: u64,
    /// The same of packets that left.
    pub bytes_out: u64,
    near: u64,
    entered: Ranges,
    /// What entered more than once: its sender sent it again.
    entered_again: Ranges,
    left: Ranges,
    /// In which order ranges entered: from the start of each to its end and number.
    order: BTreeMap<u64, (u64, u64)>,
    entered_count: u64,
    newest_left: u64,
    /// Packets of TCP data that left behind packets that had entered later.
    pub late: u64,
}

impl Ledger {
    /// A packet enters.
    pub fn enters(&mut self, view: &View<'_>) {
        self.packets_in += 1;
        self.bytes_in += bytes(view);
        if let Some((from, to)) = self.range(view) {
            let again = self.entered.overlap(from, to);
            for (from, to) in again {
                self.entered_again.insert(from, to);
            }
            self.entered.insert(from, to);
            self.entered_count += 1;
            self.order.insert(from, (to, self.entered_count));
        }
    }

    /// A packet leaves. An error says why it must not.
    pub fn leaves(&mut self, view: &View<'_>) -> Result<(), String> {
        self.packets_out += 1;
        self.bytes_out += bytes(view);
        let Some((from, to)) = self.range(view) else {
            return Ok(());
        };
        if !self.entered.contains(from, to) {
            return Err(format!("bytes {from} to {to} were delivered, but never sent"));
        }
        self.note_order(from, to);
        let again = self.left.overlap(from, to);
        self.left.insert(from, to);
        match again
            .iter()
            .find(|(from, to)| !self.entered_again.contains(*from, *to))
        {
            Some((from, to)) => Err(format!(
                "bytes {from} to {to} were delivered twice, but sent once"
            )),
            None => Ok(()),
        }
    }

    /// Counts a range as late if something that entered behind it has left before it.
    fn note_order(&mut self, from: u64, to: u64) {
        let first = self
            .order
            .range(..=from)
            .next_back()
            .map_or(from, |(start, _)| *start);
        let newest = self.order.range(first..to).map(|(_, (_, number))| *number).max();
        if let Some(newest) = newest {
            self.late += u64::from(newest < self.newest_left);
            self.newest_left = self.newest_left.max(newest);
        }
        // What lies far behind is not needed any more.
        while self.order.len() > 50_000 {
            self.order.pop_first();
        }
    }

    /// Share of the bytes that entered and did not leave.
    pub fn loss(&self) -> f64 {
        self.bytes_in.saturating_sub(self.bytes_out) as f64 / self.bytes_in.max(1) as f64
    }

    /// Bytes of a TCP stream that entered and never left, however often they were sent.
    pub fn unique_loss(&self) -> u64 {
        self.entered.total() - self.left.total()
    }

    /// The range of the stream that a TCP segment carries.
    fn range(&mut self, view: &View<'_>) -> Option<(u64, u64)> {
        let Body::Tcp(header, payload) = &view.body else {
            return None;
        };
        let length = payload.len() as u64 + u64::from(header.flags & FIN != 0);
        if header.flags & SYN != 0 || header.flags & ACK == 0 || length == 0 {
            return None;
        }
        // Offsets are counted from far below zero, so that none is negative.
        let near = if self.near == 0 {
            (1 << 40) | u64::from(header.sequence)
        } else {
            self.near
        };
        let from = near.wrapping_add_signed(i64::from(header.sequence.wrapping_sub(near as u32) as i32));
        self.near = self.near.max(from);
        Some((from, from + length))
    }
}

fn bytes(view: &View<'_>) -> u64 {
    match &view.body {
        Body::Tcp(_, payload) | Body::Udp(payload) | Body::Echo { payload, .. } => payload.len() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_join_and_count_what_was_there() {
        let mut ranges = Ranges::default();
        assert_eq!(ranges.insert(10, 20), 0);
        assert_eq!(ranges.insert(30, 40), 0);
        assert_eq!(ranges.insert(15, 35), 10);
        assert_eq!(ranges.count(), 1);
        assert!(ranges.contains(10, 40) && !ranges.contains(10, 41));
        assert_eq!(ranges.overlap(0, 12), vec![(10, 12)]);
    }

    #[test]
    fn a_second_delivery_needs_a_second_sending() {
        use crate::packet::{Ends, TcpHeader, read, tcp};
        let ends = Ends {
            source: "10.0.0.1:1".parse().expect("an address"),
            destination: "10.0.0.2:2".parse().expect("an address"),
        };
        let header = TcpHeader {
            sequence: u32::MAX - 3,
            flags: ACK,
            ..TcpHeader::default()
        };
        let packet = tcp(ends, 0, &header, 100, 1448, |_| {});
        let view = read(&packet).expect("valid");
        let mut ledger = Ledger::default();
        assert!(ledger.clone().leaves(&view).is_err());
        ledger.enters(&view);
        assert!(ledger.leaves(&view).is_ok());
        assert!(ledger.clone().leaves(&view).is_err());
        ledger.enters(&view);
        assert!(ledger.leaves(&view).is_ok());
    }
}
