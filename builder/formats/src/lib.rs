//! OpenWrt's package, index and signature formats as byte codecs: bytes in, checked types out, and back.
//!
//! **Invariant:** nothing here touches the file system, the network or a clock.
//! **Invariant:** the same input gives the same bytes; parsers never panic and bound what they allocate.

pub(crate) mod adb;
pub mod adb_index;
pub mod apk;
pub mod apk_version;
mod control;
mod ecdsa;
pub mod ipk;
#[cfg(feature = "openpgp")]
pub mod openpgp;
pub mod opkg;
pub mod package;
pub mod usign;

/// A refusal: what is wrong with the bytes, or with what was to be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

/// Lower-case hexadecimal of `bytes`, as checksums and key ids are written.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _infallible = write!(text, "{byte:02x}");
            text
        })
}

/// The bytes of a hexadecimal text, of either case.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
        .collect()
}

#[cfg(test)]
mod hostile {
    //! What every parser's tests do to a good input: cut it anywhere, flip any bit, and see that nothing panics.

    /// Calls `parse` with every truncation of `good` and with every single-bit flip, `stride` bytes apart.
    pub(crate) fn mutations(good: &[u8], stride: usize, mut parse: impl FnMut(&[u8])) {
        for length in (0..good.len()).step_by(stride) {
            parse(&good[..length]);
        }
        for at in (0..good.len()).step_by(stride) {
            for bit in 0..8 {
                let mut bad = good.to_vec();
                bad[at] ^= 1 << bit;
                parse(&bad);
            }
        }
    }

    /// Calls `parse` with `rounds` inputs, each `good` with a few bytes overwritten, cut out or doubled.
    /// The generator is seeded with the round's number, so a failure names its input.
    pub(crate) fn splices(good: &[u8], rounds: u64, mut parse: impl FnMut(&[u8])) {
        for round in 0..rounds {
            let mut state = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut next = |below: usize| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state % below.max(1) as u64) as usize
            };
            let mut bytes = good.to_vec();
            for _ in 0..=next(4) {
                let from = next(bytes.len());
                let length = next((bytes.len() - from).min(64));
                match next(3) {
                    0 => bytes[from..from + length].fill(next(256) as u8),
                    1 => drop(bytes.drain(from..from + length)),
                    _ => {
                        let copy = bytes[from..from + length].to_vec();
                        let at = next(bytes.len());
                        bytes.splice(at..at, copy);
                    }
                }
            }
            parse(&bytes);
        }
    }
}
