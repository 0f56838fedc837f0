//! Acknowledgements: which packet numbers of one path arrived, when the newest did, and how many bore a congestion mark.

use std::time::Duration;

use crate::ids::PathId;

/// Most ranges of one frame.
pub const MAX_ACK_RANGES: usize = 32;

/// What arrived on a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AckFrame {
    /// The path whose packet numbers these are; the frame may come on another.
    pub path: PathId,
    /// The highest packet number. As read from a datagram only the low 32 bits are known: see [`AckFrame::expand`].
    pub largest: u64,
    /// The receiver's clock when `largest` arrived, in microseconds, wrapped.
    pub received_at: u32,
    /// From then until this frame was made.
    pub delay: Duration,
    /// Datagrams with a congestion mark on this path so far, wrapped.
    pub ecn_ce: u32,
    /// What arrived, `largest` in the first range.
    pub ranges: AckRanges,
}

impl AckFrame {
    /// Makes the packet numbers whole, given the one that is sent next: all that is acknowledged lies below it. False, and
    /// the frame must not be used, if that cannot be.
    #[must_use]
    pub fn expand(&mut self, next: u64) -> bool {
        let Some(newest) = next.checked_sub(1) else {
            return false;
        };
        let below_newest = (newest as u32).wrapping_sub(self.largest as u32);
        let Some(largest) = newest.checked_sub(u64::from(below_newest)) else {
            return false;
        };
        // As read, numbers count from the truncated one, and wrap below zero.
        let shift = largest.wrapping_sub(self.largest);
        self.largest = largest;
        self.ranges.shift(shift);
        self.ranges.are_sound(largest)
    }
}

/// Inclusive ranges of packet numbers, newest first, in place.
#[derive(Clone)]
pub struct AckRanges {
    ranges: [(u64, u64); MAX_ACK_RANGES],
    len: u8,
}

impl AckRanges {
    /// No range.
    pub const fn new() -> Self {
        Self {
            ranges: [(0, 0); MAX_ACK_RANGES],
            len: 0,
        }
    }

    /// Adds the numbers from `start` to `end`, both included, which lie below all that are there. False if there is no
    /// room.
    pub fn push(&mut self, start: u64, end: u64) -> bool {
        debug_assert!(start <= end);
        debug_assert!(
            self.smallest()
                .is_none_or(|smallest| end < smallest.saturating_sub(1))
        );
        self.push_unchecked(start, end)
    }

    pub(super) fn push_unchecked(&mut self, start: u64, end: u64) -> bool {
        let Some(place) = self.ranges.get_mut(usize::from(self.len)) else {
            return false;
        };
        *place = (start, end);
        self.len += 1;
        true
    }

    /// How many ranges.
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The ranges as (start, end), newest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, u64)> + '_ {
        self.as_slice().iter().copied()
    }

    /// The ranges as (start, end), newest first.
    pub fn as_slice(&self) -> &[(u64, u64)] {
        self.ranges.get(..self.len()).unwrap_or_default()
    }

    /// Whether the number is in a range.
    pub fn contains(&self, number: u64) -> bool {
        self.iter().any(|(start, end)| (start..=end).contains(&number))
    }

    /// The lowest number.
    pub fn smallest(&self) -> Option<u64> {
        self.as_slice().last().map(|(start, _)| *start)
    }

    fn shift(&mut self, by: u64) {
        let len = self.len();
        for (start, end) in self.ranges.iter_mut().take(len) {
            *start = start.wrapping_add(by);
            *end = end.wrapping_add(by);
        }
    }

    /// Whether the ranges begin at `largest` and go down without touching.
    fn are_sound(&self, largest: u64) -> bool {
        let mut above = largest.checked_add(2);
        for (start, end) in self.iter() {
            if start > end || above.is_none_or(|above| end >= above.saturating_sub(1)) {
                return false;
            }
            above = Some(start);
        }
        self.as_slice().first().is_some_and(|(_, end)| *end == largest)
    }
}

impl Default for AckRanges {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for AckRanges {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for AckRanges {}

impl std::fmt::Debug for AckRanges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}
