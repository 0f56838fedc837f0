//! The unordered flow: every packet is delivered when it comes, but only once.

use super::ranges::Ranges;
use crate::wire::expand_offset;

/// Ranges of units that came. Every loss makes one more, until it is repaired: enough for seconds of heavy loss.
const RANGES: usize = 1024;
const BEGINNING: u64 = 1 << 32;

/// Which units came.
#[derive(Debug)]
pub(super) struct Unordered {
    seen: Ranges,
    /// Everything below counts as seen.
    floor: u64,
    highest: u64,
}

impl Default for Unordered {
    fn default() -> Self {
        Self {
            seen: Ranges::new(RANGES),
            floor: 0,
            highest: BEGINNING,
        }
    }
}

impl Unordered {
    /// Notes that the units from `offset` on came, and returns their whole offset; none if any of them came before.
    pub(super) fn take(&mut self, offset: u32, units: u64) -> Option<u64> {
        let start = expand_offset(offset, self.highest);
        let end = start + units;
        if !self.is_new(start, end) {
            return None;
        }
        if let Some((_, forgotten)) = self.seen.insert(start, end) {
            self.floor = self.floor.max(forgotten);
        }
        self.highest = self.highest.max(end);
        Some(start)
    }

    /// The offset of the packet of which a fragment begins at `offset`; none if the packet came before.
    pub(super) fn start_of(&self, offset: u32, at: u16, total: u16) -> Option<u64> {
        let start = expand_offset(offset, self.highest).checked_sub(u64::from(at))?;
        self.is_new(start, start + u64::from(total)).then_some(start)
    }

    fn is_new(&self, start: u64, end: u64) -> bool {
        start >= self.floor && self.seen.first_within(start, end).is_none()
    }
}
