//! Integers of 1, 2, 4 or 8 bytes, as QUIC writes them (RFC 9000 section 16): the two high bits say how many.

/// The largest value there is: 62 bits.
pub const MAX: u64 = (1 << 62) - 1;

/// Bytes that `value` takes.
pub const fn len(value: u64) -> usize {
    match value {
        0..0x40 => 1,
        0x40..0x4000 => 2,
        0x4000..0x4000_0000 => 4,
        _ => 8,
    }
}

/// Appends `value` in its shortest form. Values beyond [`MAX`] are written as [`MAX`].
pub fn write(out: &mut Vec<u8>, value: u64) {
    let value = value.min(MAX);
    match len(value) {
        1 => out.push(value as u8),
        2 => out.extend_from_slice(&(value as u16 | 0x4000).to_be_bytes()),
        4 => out.extend_from_slice(&(value as u32 | 0x8000_0000).to_be_bytes()),
        _ => out.extend_from_slice(&(value | 0xc000_0000_0000_0000).to_be_bytes()),
    }
}

/// Reads the integer at `at` and moves `at` behind it. None, and `at` as it was, if the bytes end before. Longer forms
/// than needed are read, too.
pub fn read(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let rest = bytes.get(*at..)?;
    let first = *rest.first()?;
    let length = 1usize << (first >> 6);
    let value = match length {
        1 => u64::from(first),
        2 => u64::from(u16::from_be_bytes(*rest.first_chunk()?) & 0x3fff),
        4 => u64::from(u32::from_be_bytes(*rest.first_chunk()?) & 0x3fff_ffff),
        _ => u64::from_be_bytes(*rest.first_chunk()?) & MAX,
    };
    *at += length;
    Some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_examples_of_the_rfc() {
        for (bytes, value) in [
            (
                &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..],
                151_288_809_941_952_652,
            ),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
            (&[0x40, 0x25], 37),
        ] {
            let mut at = 0;
            assert_eq!(read(bytes, &mut at), Some(value));
            assert_eq!(at, bytes.len());
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(shift in 0..62u32, low in any::<u64>(), cut in 1..8usize) {
            let value = low & (MAX >> shift);
            let mut bytes = Vec::new();
            write(&mut bytes, value);
            prop_assert_eq!(bytes.len(), len(value));
            let mut at = 0;
            prop_assert_eq!(read(&bytes, &mut at), Some(value));
            prop_assert_eq!(at, bytes.len());
            bytes.truncate(bytes.len().saturating_sub(cut));
            at = 0;
            prop_assert_eq!(read(&bytes, &mut at), None);
            prop_assert_eq!(at, 0);
        }
    }
}
