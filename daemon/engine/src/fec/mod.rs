//! Forward error correction: parity of what left on a path lately, out of which the other end computes what got lost,
//! a round trip before a repair could come.
//!
//! The code is the sliding-window random linear code over GF(2^8) of RFC 8681: data leave as they are and at once, and
//! now and then a parity packet carries a sum, with random coefficients, of the last [`WINDOW`] packets or fewer. Any
//! `n` parity packets bring back, nearly always, any `n` packets that they both cover. What they do not bring back is
//! repaired as ever: parity replaces no acknowledgement, no sign of congestion and no repair.
//!
//! **Invariant:** nothing here knows frames or paths; plaintexts go in, plaintexts come out.

mod coefficients;
mod decoder;
mod encoder;
mod field;
mod policy;

pub(crate) use decoder::Decoder;
pub(crate) use encoder::Encoder;
pub(crate) use policy::{Budget, IDLE, Policy};

/// Packets that one parity packet covers at most. One byte on the wire; more would cost more than they help, because
/// each is read again for each parity.
pub(crate) const WINDOW: usize = 128;
/// Bytes of the largest plaintext that is protected: that of an IP packet of 1500 bytes.
const LONGEST: usize = 1500;
/// A protected plaintext goes into the sum behind its length, so that the shorter ones end where they did.
pub(crate) const LENGTH_BYTES: usize = 2;

/// Which packets a parity covers, and with which coefficients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// The first packet number.
    pub(crate) first: u64,
    /// How many: 1 to [`WINDOW`].
    pub(crate) count: usize,
    /// The seed of the coefficients (RFC 8681's repair key).
    pub(crate) key: u16,
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    /// What the decoder knows after `sent` packets, of which `lost` got lost, with a parity every `interval` packets.
    fn through_losses(
        packets: &[Vec<u8>],
        lost: &[bool],
        interval: usize,
        span: usize,
    ) -> Vec<Option<Bytes>> {
        let mut encoder = Encoder::default();
        let mut decoder = Decoder::default();
        let mut known: Vec<Option<Bytes>> = vec![None; packets.len()];
        for (number, packet) in packets.iter().enumerate() {
            encoder.push(number as u64, packet, true, 1452);
            let mut recovered = Vec::new();
            if !lost[number] {
                known[number] = Some(Bytes::copy_from_slice(packet));
                decoder.arrived(number as u64, packet, &mut recovered);
            }
            if (number + 1) % interval == 0 {
                let mut parity = Vec::new();
                let span = encoder.parity(span, &mut parity).expect("something to protect");
                decoder.parity(span, &parity, &mut recovered);
            }
            for (number, plaintext) in recovered {
                assert_eq!(&plaintext[..], &packets[number as usize][..]);
                assert!(
                    known[number as usize].replace(plaintext).is_none(),
                    "only what was lost"
                );
            }
        }
        known
    }

    fn packets(lengths: impl Iterator<Item = usize>) -> Vec<Vec<u8>> {
        lengths
            .enumerate()
            .map(|(number, length)| (0..length).map(|at| (number * 31 + at * 7) as u8).collect())
            .collect()
    }

    /// The example of docs/PROTOCOL.md, computed apart from this code.
    #[test]
    fn a_parity_is_what_the_specification_says() {
        let mut encoder = Encoder::default();
        encoder.parity(1, &mut Vec::new());
        for (number, plaintext) in [&[0x01][..], &[], &[0x41, 0x05, 0x00]].into_iter().enumerate() {
            encoder.push(number as u64, plaintext, true, 1452);
        }
        let mut symbol = Vec::new();
        let before = encoder.parity(3, &mut symbol).expect("key 0");
        symbol.clear();
        let span = encoder.parity(3, &mut symbol).expect("key 1");
        assert_eq!((before.key, span.key, span.first, span.count), (0, 1, 0, 3));
        assert_eq!(symbol, [0x00, 0xeb, 0xcf, 0x4f, 0x00]);
    }

    #[test]
    fn one_lost_packet_comes_back_with_the_next_parity() {
        let packets = packets([1400, 3, 900, 1450, 60, 1, 1400, 1400].into_iter());
        for missing in 0..8 {
            let lost: Vec<bool> = (0..8).map(|number| number == missing).collect();
            let known = through_losses(&packets, &lost, 8, 8);
            assert!(known.iter().all(Option::is_some), "packet {missing}");
        }
    }

    #[test]
    fn a_burst_comes_back_when_as_many_parities_cover_it() {
        let packets = packets((0..64).map(|number| 100 + number * 20));
        let lost: Vec<bool> = (0..64).map(|number| (10..14).contains(&number)).collect();
        assert!(
            through_losses(&packets, &lost, 16, 64)
                .iter()
                .all(Option::is_some)
        );
        let known = through_losses(&packets, &lost, 32, 64);
        assert_eq!(
            known.iter().filter(|one| one.is_none()).count(),
            4,
            "two are not enough for four"
        );
    }

    proptest! {
        #[test]
        fn what_comes_back_is_what_was_lost(
            lengths in prop::collection::vec(1usize..1450, 1..300),
            losses in prop::collection::vec(0u8..100, 300),
            interval in 3usize..40, span in 1usize..200,
        ) {
            let packets = packets(lengths.into_iter());
            let lost: Vec<bool> = losses.iter().map(|chance| *chance < 5).collect();
            through_losses(&packets, &lost, interval, span.min(WINDOW));
        }
    }
}
