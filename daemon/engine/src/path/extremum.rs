//! Smallest and largest values of the last seconds, in constant space.
//!
//! The window is cut into slices and each keeps its own extremum, so that a value leaves between 7/8 of the window
//! and the whole window after it came.

use std::time::Duration;

use crate::time::Instant;

const SLICES: usize = 8;

/// The smallest value of a sliding window of time.
#[derive(Clone, Debug)]
pub struct WindowedMinimum<T> {
    slices: [Option<T>; SLICES],
    slice: Duration,
    newest: usize,
    newest_since: Instant,
    current: Option<T>,
}

impl<T: Copy + Ord> WindowedMinimum<T> {
    /// An empty window of this length.
    pub fn new(window: Duration) -> Self {
        Self {
            slices: [None; SLICES],
            slice: window / SLICES as u32,
            newest: 0,
            newest_since: Instant::ZERO,
            current: None,
        }
    }

    /// Takes a value in, and lets go of what is older than the window.
    pub fn update(&mut self, now: Instant, value: T) {
        self.advance(now);
        let slot = &mut self.slices[self.newest];
        *slot = Some(slot.map_or(value, |old| old.min(value)));
        self.current = self.slices.iter().flatten().min().copied();
    }

    /// The smallest value, as of the last update.
    pub fn value(&self) -> Option<T> {
        self.current
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.slices = [None; SLICES];
        self.current = None;
    }

    fn advance(&mut self, now: Instant) {
        let age = now.since(self.newest_since);
        if age < self.slice {
            return;
        }
        if age >= self.slice * SLICES as u32 {
            self.slices = [None; SLICES];
            self.newest_since = now;
            return;
        }
        while now.since(self.newest_since) >= self.slice {
            self.newest = (self.newest + 1) % SLICES;
            self.slices[self.newest] = None;
            self.newest_since += self.slice;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minimum_leaves_with_its_window() {
        let mut window = WindowedMinimum::new(Duration::from_secs(8));
        window.update(Instant::from_millis(0), 5);
        window.update(Instant::from_millis(3_000), 9);
        assert_eq!(window.value(), Some(5));
        window.update(Instant::from_millis(7_500), 9);
        assert_eq!(window.value(), Some(5));
        window.update(Instant::from_millis(8_100), 9);
        assert_eq!(window.value(), Some(9));
        window.update(Instant::from_millis(60_000), 12);
        assert_eq!(window.value(), Some(12));
    }
}
