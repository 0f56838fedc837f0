//! Payload that can be checked: the byte at each offset of a flow's stream is known.

use std::sync::OnceLock;

/// A prime, so that the pattern fits no packet size.
const PERIOD: usize = 65_521;
const LONGEST: usize = 65_536;

fn table() -> &'static [u8] {
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let once: Vec<u8> = (0..PERIOD)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            })
            .collect();
        once.iter().cycle().take(PERIOD + LONGEST).copied().collect()
    })
}

fn slice(flow: u16, offset: u64, length: usize) -> &'static [u8] {
    let from = ((offset + u64::from(flow) * 7919) % PERIOD as u64) as usize;
    &table()[from..from + length]
}

/// Fills `out` (at most 64 KiB) with what belongs at `offset` of the stream of `flow`.
pub fn fill(flow: u16, offset: u64, out: &mut [u8]) {
    out.copy_from_slice(slice(flow, offset, out.len()));
}

/// Whether `found` (at most 64 KiB) is what belongs at `offset` of the stream of `flow`.
pub fn matches(flow: u16, offset: u64, found: &[u8]) -> bool {
    slice(flow, offset, found.len()) == found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_offset_or_flow_is_seen() {
        let mut bytes = vec![0; 1448];
        fill(3, 1 << 40, &mut bytes);
        assert!(matches(3, 1 << 40, &bytes));
        assert!(matches(3, (1 << 40) + 48, &bytes[48..]));
        assert!(!matches(3, (1 << 40) + 1, &bytes));
        assert!(!matches(4, 1 << 40, &bytes));
    }
}
