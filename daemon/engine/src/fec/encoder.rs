//! The sender's side of one path: keeps the last plaintexts, and sums them up.

use super::coefficients::coefficients;
use super::field::add_multiple;
use super::{LENGTH_BYTES, LONGEST, Span, WINDOW};

/// What left on a path lately. Takes its memory (200 KB) with the first plaintext, and gives it back with
/// [`Encoder::stop`].
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    /// [`WINDOW`] plaintexts, each behind its length; none, whose length is zero, where one is not protected.
    kept: Vec<u8>,
    /// The packet number after the newest one.
    next: u64,
    /// How many before it are kept.
    count: usize,
    /// How many left since the last parity.
    since: usize,
    /// Of these, how many are worth one.
    uncovered: usize,
    /// What the symbols of this window may be long.
    longest: usize,
    key: u16,
}

const STRIDE: usize = LENGTH_BYTES + LONGEST;

impl Encoder {
    /// A packet leaves; it is worth a parity if it carries `data`. `longest`: bytes of the longest symbol (plaintext and its length) that a parity can carry here; a
    /// plaintext that does not fit is not protected. One that grew or shrank begins a new window, because both ends tell
    /// by the length of a parity what is in it.
    pub(crate) fn push(&mut self, number: u64, plaintext: &[u8], data: bool, longest: usize) {
        let longest = longest.min(STRIDE);
        if number != self.next || longest != self.longest {
            self.forget();
            self.longest = longest;
        }
        self.kept.resize(WINDOW * STRIDE, 0);
        self.next = number + 1;
        self.count = (self.count + 1).min(WINDOW);
        self.since = (self.since + 1).min(WINDOW);
        self.uncovered += usize::from(data);
        let slot = slot(number);
        let protected = plaintext.len() + LENGTH_BYTES <= longest;
        let length = if protected { plaintext.len() } else { 0 };
        if let Some(place) = self.kept.get_mut(slot..slot + LENGTH_BYTES + length) {
            let (head, body) = place.split_at_mut(LENGTH_BYTES);
            head.copy_from_slice(&(length as u16).to_be_bytes());
            body.copy_from_slice(&plaintext[..length]);
        }
    }

    /// Packets with data that left since the last parity.
    pub(crate) fn uncovered(&self) -> usize {
        self.uncovered
    }

    /// Packets that left since the last parity, whatever they carry.
    pub(crate) fn since(&self) -> usize {
        self.since
    }

    /// Appends the parity of the last `count` packets, or of as many as are kept; none if there is nothing to protect.
    pub(crate) fn parity(&mut self, count: usize, out: &mut Vec<u8>) -> Option<Span> {
        (self.since, self.uncovered) = (0, 0);
        let count = count.clamp(1, WINDOW).min(self.count);
        let first = self.next - count as u64;
        let symbol = |number| self.symbol(number).unwrap_or_default();
        let longest = (first..self.next).map(|number| symbol(number).len()).max()?;
        if longest == 0 {
            return None;
        }
        let start = out.len();
        out.resize(start + longest, 0);
        for (number, coefficient) in (first..self.next).zip(coefficients(self.key)) {
            add_multiple(&mut out[start..], symbol(number), coefficient);
        }
        let span = Span {
            first,
            count,
            key: self.key,
        };
        self.key = self.key.wrapping_add(1);
        Some(span)
    }

    /// Forgets everything: nothing is protected any more, until the next [`Encoder::push`].
    pub(crate) fn stop(&mut self) {
        self.forget();
        self.kept = Vec::new();
    }

    fn forget(&mut self) {
        (self.count, self.since, self.uncovered) = (0, 0, 0);
    }

    /// The length and the plaintext; none of what is not protected.
    fn symbol(&self, number: u64) -> Option<&[u8]> {
        let place = self.kept.get(slot(number)..)?;
        let length = usize::from(u16::from_be_bytes(*place.first_chunk()?));
        (length > 0).then(|| place.get(..LENGTH_BYTES + length))?
    }
}

fn slot(number: u64) -> usize {
    (number % WINDOW as u64) as usize * STRIDE
}
