//! The internet checksum (RFC 1071), and the sums that TCP and UDP take over addresses.

/// Adds the 16-bit words of `bytes` to `sum`; an odd last byte counts as the upper half of a word.
///
/// The sum is kept unfolded, so that parts can be added in turn; every part but the last must have an even length.
pub fn add(sum: u64, bytes: &[u8]) -> u64 {
    // Ones' complement addition does not care about word size or byte order until the end: eight bytes at a time
    // in native order, with the carries counted, is several times faster than two.
    let (words, rest) = bytes.as_chunks::<8>();
    let mut total: u128 = 0;
    for word in words {
        total += u128::from(u64::from_ne_bytes(*word));
    }
    let mut tail = [0u8; 8];
    tail[..rest.len()].copy_from_slice(rest);
    total += u128::from(u64::from_ne_bytes(tail));
    let folded = fold_native(total);
    sum + u64::from(u16::from_be(folded))
}

fn fold_native(total: u128) -> u16 {
    let mut sum = (total as u64 as u128) + (total >> 64);
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    let mut sum = sum as u64;
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Folds a sum to 16 bits, without inverting it.
pub fn fold(mut sum: u64) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The sum over the pseudo header of TCP and UDP: both addresses (8 or 32 bytes in a row), protocol and length.
pub fn pseudo(addresses: &[u8], protocol: u8, length: usize) -> u64 {
    add(0, addresses) + u64::from(protocol) + (length as u64 >> 16) + (length as u64 & 0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slow(bytes: &[u8]) -> u16 {
        let mut sum = 0u64;
        for pair in bytes.chunks(2) {
            sum += u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
        }
        fold(sum)
    }

    #[test]
    fn equals_the_textbook_sum() {
        let bytes: Vec<u8> = (0..2000u32).map(|i| (i * 7 + i / 3) as u8).collect();
        for length in (0..70).chain([1499, 1500, 1999]) {
            assert_eq!(
                fold(add(0, &bytes[..length])),
                slow(&bytes[..length]),
                "{length} bytes"
            );
        }
        assert_eq!(fold(add(0, &[0xff; 1500])), slow(&[0xff; 1500]));
    }

    #[test]
    fn parts_add_up() {
        let bytes: Vec<u8> = (0..255).collect();
        assert_eq!(fold(add(add(0, &bytes[..100]), &bytes[100..])), slow(&bytes));
    }

    #[test]
    fn the_example_of_the_ipv4_header_checks_out() {
        // A header with its checksum in place sums to all ones.
        let header = [
            0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7,
        ];
        assert_eq!(fold(add(0, &header)), 0xffff);
    }
}
