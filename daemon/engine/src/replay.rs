//! Which packet numbers of a path were seen: a number counts once, and only if it is not too old to tell.

/// Packet numbers that the window reaches back.
pub const WINDOW: u64 = 16384;
const WORDS: usize = (WINDOW / 64) as usize;

/// A ring of bits, one for each of the newest packet numbers.
#[derive(Clone, Debug)]
pub struct ReplayWindow {
    seen: Box<[u64; WORDS]>,
    /// One more than the highest number seen.
    next: u64,
}

impl ReplayWindow {
    /// Nothing was seen.
    pub fn new() -> Self {
        Self {
            seen: Box::new([0; WORDS]),
            next: 0,
        }
    }

    /// One more than the highest number seen: what the next one is expected to be.
    pub fn expected(&self) -> u64 {
        self.next
    }

    /// Whether the number is new. Ask before a datagram is opened: it is cheaper than that.
    pub fn would_accept(&self, packet_number: u64) -> bool {
        if packet_number >= self.next {
            return packet_number < u64::MAX;
        }
        let (word, bit) = place(packet_number);
        self.next - packet_number <= WINDOW && self.seen[word] & bit == 0
    }

    /// Remembers the number; false if it was not new. Only for numbers of datagrams that were authenticated: anybody could
    /// move the window otherwise.
    pub fn mark(&mut self, packet_number: u64) -> bool {
        if !self.would_accept(packet_number) {
            return false;
        }
        if packet_number >= self.next {
            self.forget(self.next, packet_number);
            self.next = packet_number + 1;
        }
        let (word, bit) = place(packet_number);
        self.seen[word] |= bit;
        true
    }

    /// Clears the places of the numbers from `first` to `last`, which others had before.
    fn forget(&mut self, first: u64, last: u64) {
        if last - first >= WINDOW {
            self.seen.fill(0);
            return;
        }
        let mut number = first;
        while number <= last {
            let (word, _) = place(number);
            let from = number % 64;
            let count = (64 - from).min(last - number + 1);
            self.seen[word] &= !((u64::MAX >> (64 - count)) << from);
            number += count;
        }
    }
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self::new()
    }
}

fn place(packet_number: u64) -> (usize, u64) {
    let index = packet_number % WINDOW;
    ((index / 64) as usize, 1 << (index % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_counts_once_and_not_when_it_is_too_old() {
        let mut window = ReplayWindow::new();
        assert!(window.mark(5));
        assert!(!window.mark(5));
        assert!(window.mark(0));
        assert!(window.mark(WINDOW + 5));
        assert!(!window.would_accept(5), "seen, and now outside");
        assert!(window.mark(6), "the oldest that the window holds");
        assert!(!window.mark(6));
    }

    #[test]
    fn the_end_of_all_numbers_is_refused_without_overflow() {
        let mut window = ReplayWindow::new();
        assert!(!window.mark(u64::MAX));
        assert!(window.mark(u64::MAX - 1));
        assert!(!window.mark(u64::MAX - 1));
        assert!(!window.would_accept(0));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set(
            steps in prop::collection::vec((-20_000i64..20_000, 0..4u8), 1..400),
        ) {
            let mut window = ReplayWindow::new();
            let mut set = BTreeSet::new();
            let mut near = 0u64;
            for (step, scale) in steps {
                // Small steps as in life, and now and then large ones.
                let step = if scale == 0 { step } else { step % 70 };
                let number = near.saturating_add_signed(step);
                let highest = set.last().copied().unwrap_or(0);
                let new = number + WINDOW > highest && !set.contains(&number);
                prop_assert_eq!(window.would_accept(number), new);
                prop_assert_eq!(window.mark(number), new);
                set.insert(number);
                near = number;
            }
        }
    }
}
