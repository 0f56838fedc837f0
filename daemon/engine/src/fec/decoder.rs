//! The receiver's side of one path: keeps what arrived lately, and computes from parity what did not.
//!
//! Every parity is one equation between what it covers. What arrived is put in at once; what is left are rows of
//! Gauss-Jordan elimination over the few packets that are missing: each row has a packet of its own, its *pivot*, which no
//! other row has. A row without any but its pivot is that packet.

use bytes::Bytes;

use super::coefficients::coefficients;
use super::field::{add_multiple, inverse, scale};
use super::{LENGTH_BYTES, LONGEST, Span, WINDOW};

/// Packets that are kept: what a parity covers, and as many again for parity that comes late.
const KEPT: usize = 2 * WINDOW;
const STRIDE: usize = LENGTH_BYTES + LONGEST;
/// Equations that wait for others.
const MOST_ROWS: usize = 16;
/// Missing packets in one equation. With more it is hardly ever solved before a repair comes.
const MOST_MISSING: usize = 16;
/// A parity that covers `n` packets costs as much work as `n` packets: no more than one for each of so many datagrams is
/// computed.
const PACKETS_FOR_PARITY: u32 = 2;
const MOST_CREDIT: u32 = 32;

/// A number that no packet has.
const NONE: u64 = u64::MAX;

/// What arrived on a path lately, and the equations about what did not. 400 KB, once it is used.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// Plaintexts behind their lengths, by packet number modulo [`KEPT`].
    kept: Vec<u8>,
    numbers: Vec<u64>,
    rows: Vec<Row>,
    credit: u32,
}

/// The sum of `coefficient` · packet over `missing` is `symbol`. The first one is the pivot, with the coefficient 1.
#[derive(Debug)]
struct Row {
    missing: Vec<(u64, u8)>,
    symbol: Vec<u8>,
}

impl Row {
    fn coefficient(&self, number: u64) -> Option<u8> {
        let entry = self.missing.iter().find(|(one, _)| *one == number);
        entry.map(|(_, coefficient)| *coefficient)
    }

    /// Takes a packet that is known now out of the equation.
    fn substitute(&mut self, number: u64, symbol: &[u8]) {
        if let Some(coefficient) = self.coefficient(number) {
            self.missing.retain(|(one, _)| *one != number);
            add_multiple(&mut self.symbol, symbol, coefficient);
        }
    }

    /// Adds `factor` times another row.
    fn add(&mut self, other: &Row, factor: u8) {
        for (number, coefficient) in &other.missing {
            let product = super::field::multiply(*coefficient, factor);
            match self.missing.iter_mut().find(|(one, _)| one == number) {
                Some((_, mine)) => *mine ^= product,
                None => self.missing.push((*number, product)),
            }
        }
        self.missing.retain(|(_, coefficient)| *coefficient != 0);
        if self.symbol.len() < other.symbol.len() {
            self.symbol.resize(other.symbol.len(), 0);
        }
        add_multiple(&mut self.symbol, &other.symbol, factor);
    }
}

impl Decoder {
    /// A packet arrived. What can be computed now goes to `recovered`: packet numbers and plaintexts.
    pub(crate) fn arrived(&mut self, number: u64, plaintext: &[u8], recovered: &mut Vec<(u64, Bytes)>) {
        if plaintext.len() > LONGEST {
            return;
        }
        self.credit = (self.credit + 1).min(MOST_CREDIT * PACKETS_FOR_PARITY);
        self.keep(number, plaintext);
        self.settle(number, recovered);
    }

    /// A parity arrived.
    pub(crate) fn parity(&mut self, span: Span, symbol: &[u8], recovered: &mut Vec<(u64, Bytes)>) {
        if span.count == 0 || span.count > WINDOW || symbol.len() > STRIDE || self.credit < PACKETS_FOR_PARITY
        {
            return;
        }
        self.credit -= PACKETS_FOR_PARITY;
        let mut row = Row {
            missing: Vec::new(),
            symbol: symbol.to_vec(),
        };
        let numbers = (0..span.count as u64).map(|step| span.first.saturating_add(step));
        for (number, coefficient) in numbers.zip(coefficients(span.key)) {
            match self.symbol(number) {
                // Longer than the parity: it was not protected.
                Some(known) if known.len() > symbol.len() => {}
                Some(known) => add_multiple(&mut row.symbol, known, coefficient),
                // Too old to know whether it arrived.
                None if self
                    .numbers
                    .get(slot(number))
                    .is_some_and(|kept| *kept != NONE && *kept > number) =>
                {
                    return;
                }
                None => row.missing.push((number, coefficient)),
            }
            if row.missing.len() > MOST_MISSING {
                return;
            }
        }
        self.take(row, recovered);
    }

    /// Brings an equation into the elimination.
    fn take(&mut self, mut row: Row, recovered: &mut Vec<(u64, Bytes)>) {
        for known in &self.rows {
            let Some((pivot, _)) = known.missing.first() else {
                continue;
            };
            if let Some(coefficient) = row.coefficient(*pivot) {
                row.add(known, coefficient);
            }
        }
        let Some(&(pivot, coefficient)) = row.missing.first() else {
            // It says nothing new.
            return;
        };
        if row.missing.len() > MOST_MISSING {
            return;
        }
        let factor = inverse(coefficient);
        for (_, coefficient) in &mut row.missing {
            *coefficient = super::field::multiply(*coefficient, factor);
        }
        scale(&mut row.symbol, factor);
        for other in &mut self.rows {
            if let Some(coefficient) = other.coefficient(pivot) {
                other.add(&row, coefficient);
            }
        }
        if self.rows.len() == MOST_ROWS {
            self.rows.remove(0);
        }
        self.rows.push(row);
        self.solved(recovered);
    }

    /// Takes out the rows that are packets now.
    fn solved(&mut self, recovered: &mut Vec<(u64, Bytes)>) {
        while let Some(index) = self.rows.iter().position(|row| row.missing.len() == 1) {
            let row = self.rows.swap_remove(index);
            let Some(&(number, _)) = row.missing.first() else {
                return;
            };
            let plaintext = row
                .symbol
                .split_first_chunk::<LENGTH_BYTES>()
                .and_then(|(length, rest)| {
                    let (plaintext, padding) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
                    // A sum of other packets than those that the sender meant would hardly end in zeros.
                    padding.iter().all(|byte| *byte == 0).then_some(plaintext)
                });
            // What was not protected comes out empty.
            if let Some(plaintext) = plaintext.filter(|plaintext| !plaintext.is_empty()) {
                self.keep(number, plaintext);
                recovered.push((number, Bytes::copy_from_slice(plaintext)));
            }
        }
    }

    /// A packet of which equations may say something is known now.
    fn settle(&mut self, number: u64, recovered: &mut Vec<(u64, Bytes)>) {
        while let Some(index) = self.rows.iter().position(|row| row.coefficient(number).is_some()) {
            let mut row = self.rows.swap_remove(index);
            let Some(symbol) = self.symbol(number) else {
                continue;
            };
            if symbol.len() <= row.symbol.len() {
                row.substitute(number, symbol);
            } else {
                row.missing.retain(|(one, _)| *one != number);
            }
            self.take(row, recovered);
        }
        // What is older than all that is kept is not waited for any more.
        self.rows.retain(|row| {
            row.missing
                .iter()
                .all(|(missing, _)| missing.saturating_add(KEPT as u64) > number)
        });
    }

    fn keep(&mut self, number: u64, plaintext: &[u8]) {
        self.kept.resize(KEPT * STRIDE, 0);
        self.numbers.resize(KEPT, NONE);
        let slot = slot(number);
        if self.numbers[slot] != NONE && self.numbers[slot] > number {
            return;
        }
        self.numbers[slot] = number;
        let place = &mut self.kept[slot * STRIDE..];
        place[..LENGTH_BYTES].copy_from_slice(&(plaintext.len() as u16).to_be_bytes());
        place[LENGTH_BYTES..LENGTH_BYTES + plaintext.len()].copy_from_slice(plaintext);
    }

    /// The length and the plaintext of a packet that is kept.
    fn symbol(&self, number: u64) -> Option<&[u8]> {
        let slot = slot(number);
        if self.numbers.get(slot) != Some(&number) {
            return None;
        }
        let place = self.kept.get(slot * STRIDE..)?;
        let length = usize::from(u16::from_be_bytes(*place.first_chunk()?));
        place.get(..LENGTH_BYTES + length)
    }
}

fn slot(number: u64) -> usize {
    (number % KEPT as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::super::Encoder;
    use super::*;

    /// Three packets and their parity; what the decoder says for each.
    #[test]
    fn parity_may_overtake_what_it_covers() {
        let mut encoder = Encoder::default();
        for number in 10..13 {
            encoder.push(number, &[number as u8; 40], true, 1000);
        }
        let mut parity = Vec::new();
        let span = encoder.parity(3, &mut parity).unwrap();
        let mut decoder = Decoder::default();
        let mut recovered = Vec::new();
        for number in 0..10 {
            decoder.arrived(number, &[1], &mut recovered);
        }
        decoder.parity(span, &parity, &mut recovered);
        decoder.arrived(12, &[12; 40], &mut recovered);
        assert_eq!(recovered, []);
        decoder.arrived(10, &[10; 40], &mut recovered);
        assert_eq!(recovered, [(11, Bytes::from_static(&[11; 40]))]);
        decoder.arrived(11, &[11; 40], &mut recovered);
        assert_eq!(recovered.len(), 1, "the late one changes nothing");
    }

    #[test]
    fn a_peer_cannot_make_it_work_or_grow_without_end() {
        let mut decoder = Decoder::default();
        let mut recovered = Vec::new();
        for key in 0..1000u16 {
            let span = Span {
                first: u64::MAX - 64,
                count: 14,
                key,
            };
            decoder.arrived(u64::from(key), &[0; 20], &mut recovered);
            decoder.parity(span, &[key as u8; 1400], &mut recovered);
        }
        assert!(decoder.rows.len() <= MOST_ROWS);
        let span = Span {
            first: 990,
            count: 200,
            key: 1,
        };
        decoder.parity(span, &[1; 100], &mut recovered);
        decoder.parity(Span { count: 0, ..span }, &[], &mut recovered);
    }
}
