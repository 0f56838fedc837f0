//! A bounded set of ranges of units.

use std::collections::VecDeque;

/// Ranges, end exclusive, sorted, with gaps between them.
#[derive(Debug)]
pub(super) struct Ranges {
    ranges: VecDeque<(u64, u64)>,
    limit: usize,
}

impl Ranges {
    /// An empty set of at most `limit` ranges.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            ranges: VecDeque::new(),
            limit,
        }
    }

    /// Adds a range. If there are too many then, the lowest one is removed and returned.
    pub(super) fn insert(&mut self, start: u64, end: u64) -> Option<(u64, u64)> {
        if start >= end {
            return None;
        }
        let first = self.ranges.partition_point(|range| range.1 < start);
        let behind = self.ranges.partition_point(|range| range.0 <= end);
        if first == behind {
            self.ranges.insert(first, (start, end));
        } else {
            let merged = (
                start.min(self.ranges[first].0),
                end.max(self.ranges[behind - 1].1),
            );
            self.ranges.drain(first + 1..behind);
            self.ranges[first] = merged;
        }
        if self.ranges.len() > self.limit {
            self.ranges.pop_front()
        } else {
            None
        }
    }

    /// How many ranges there are.
    pub(super) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Forgets the lowest ranges until there are `count`; how many those were.
    pub(super) fn shrink_to(&mut self, count: usize) -> usize {
        let surplus = self.ranges.len().saturating_sub(count);
        self.ranges.drain(..surplus);
        surplus
    }

    /// Takes a range out.
    pub(super) fn remove(&mut self, start: u64, end: u64) {
        let mut index = self.ranges.partition_point(|range| range.1 <= start);
        while let Some((from, to)) = self.ranges.get(index).copied() {
            if from >= end {
                break;
            }
            self.ranges.remove(index);
            if to > end {
                self.ranges.insert(index, (end, to));
            }
            if from < start {
                self.ranges.insert(index, (from, start));
                index += 1;
            }
        }
        while self.ranges.len() > self.limit {
            self.ranges.pop_front();
        }
    }

    /// Whether all of `start..end` is in the set.
    pub(super) fn contains(&self, start: u64, end: u64) -> bool {
        self.first_within(start, end) == Some((start, end))
    }

    /// The first part of `start..end` that is in the set.
    pub(super) fn first_within(&self, start: u64, end: u64) -> Option<(u64, u64)> {
        let index = self.ranges.partition_point(|range| range.1 <= start);
        let (from, to) = *self.ranges.get(index)?;
        let part = (from.max(start), to.min(end));
        (part.0 < part.1).then_some(part)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn equals_a_set_of_numbers(
            steps in proptest::collection::vec((any::<bool>(), 0u64..100, 1u64..20), 0..60),
            question in (0u64..100, 1u64..20),
        ) {
            let mut ranges = Ranges::new(1000);
            let mut plain = std::collections::BTreeSet::new();
            for (insert, start, length) in steps {
                for number in start..start + length {
                    if insert { plain.insert(number); } else { plain.remove(&number); }
                }
                if insert { ranges.insert(start, start + length); } else { ranges.remove(start, start + length); }
            }
            let covered: Vec<u64> = ranges.ranges.iter().flat_map(|(start, end)| *start..*end).collect();
            prop_assert_eq!(covered, plain.iter().copied().collect::<Vec<_>>());
            for pair in ranges.ranges.iter().zip(ranges.ranges.iter().skip(1)) {
                prop_assert!(pair.0.1 < pair.1.0, "gaps between ranges");
            }
            let (start, length) = question;
            let all = (start..start + length).all(|number| plain.contains(&number));
            prop_assert_eq!(ranges.contains(start, start + length), all);
        }
    }

    #[test]
    fn the_lowest_range_goes_when_there_are_too_many() {
        let mut ranges = Ranges::new(2);
        assert_eq!(ranges.insert(0, 1), None);
        assert_eq!(ranges.insert(10, 11), None);
        assert_eq!(ranges.insert(20, 21), Some((0, 1)));
        ranges.remove(10, 11);
        assert_eq!(ranges.insert(30, 31), None);
    }
}
