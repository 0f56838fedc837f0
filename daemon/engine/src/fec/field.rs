//! The field with 256 elements: bytes under addition (exclusive or) and multiplication modulo
//! x^8 + x^4 + x^3 + x^2 + 1, as RFC 8681 (section 3.4) and most erasure codes have it.

/// The polynomial without its highest term.
const POLYNOMIAL: u8 = 0x1d;
/// The highest bit of each byte of a word.
const HIGH: u64 = 0x8080_8080_8080_8080;

/// The product of two elements.
pub(super) fn multiply(a: u8, b: u8) -> u8 {
    let mut product = 0;
    let mut power = a;
    for bit in 0..8 {
        if b >> bit & 1 == 1 {
            product ^= power;
        }
        power = power << 1 ^ if power & 0x80 != 0 { POLYNOMIAL } else { 0 };
    }
    product
}

/// The element whose product with `a` is 1; 0 for 0.
pub(super) fn inverse(a: u8) -> u8 {
    // a^254: every element but zero satisfies a^255 = 1.
    let mut result = 1;
    let mut power = a;
    for _ in 0..7 {
        power = multiply(power, power);
        result = multiply(result, power);
    }
    result
}

/// Adds `factor` times `data` to the beginning of `sum`, which must be at least as long.
///
/// Eight bytes a step, or more where the compiler finds wider registers: a multiplication is at most eight times
/// "double, and add where the factor has a bit". No tables, so that a small processor's cache stays with the packets.
pub(super) fn add_multiple(sum: &mut [u8], data: &[u8], factor: u8) {
    let (sum_words, sum_rest) = sum.as_chunks_mut::<8>();
    let (words, rest) = data.as_chunks::<8>();
    for (target, word) in sum_words.iter_mut().zip(words) {
        let product = multiply_word(u64::from_ne_bytes(*word), factor);
        *target = (u64::from_ne_bytes(*target) ^ product).to_ne_bytes();
    }
    let tail = sum_words
        .get_mut(words.len())
        .map(|word| &mut word[..])
        .unwrap_or(sum_rest);
    for (target, byte) in tail.iter_mut().zip(rest) {
        *target ^= multiply(*byte, factor);
    }
}

fn multiply_word(word: u64, factor: u8) -> u64 {
    let mut product = 0;
    let mut power = word;
    for bit in 0..8 {
        let chosen = 0u64.wrapping_sub(u64::from(factor >> bit & 1));
        product ^= power & chosen;
        let overflow = (power & HIGH) >> 7;
        // Times the polynomial, by shifts: unlike a multiplication of words, every vector unit has them.
        let reduced = overflow ^ (overflow << 2) ^ (overflow << 3) ^ (overflow << 4);
        power = ((power & !HIGH) << 1) ^ reduced;
    }
    product
}

/// Multiplies all of `data` by `factor`.
pub(super) fn scale(data: &mut [u8], factor: u8) {
    let (words, rest) = data.as_chunks_mut::<8>();
    for word in words {
        *word = multiply_word(u64::from_ne_bytes(*word), factor).to_ne_bytes();
    }
    for byte in rest {
        *byte = multiply(*byte, factor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_field() {
        assert_eq!(multiply(2, 0x80), POLYNOMIAL);
        for a in 1..=255 {
            assert_eq!(multiply(a, 1), a);
            assert_eq!(multiply(a, inverse(a)), 1);
            for b in 0..=255 {
                assert_eq!(multiply(a, b), multiply(b, a));
                let c = b.wrapping_mul(29) ^ 0x5a;
                assert_eq!(multiply(a, b ^ c), multiply(a, b) ^ multiply(a, c));
            }
        }
        assert_eq!(inverse(0), 0);
    }

    #[test]
    fn words_are_bytes_side_by_side() {
        let data: Vec<u8> = (0..=255).chain(0..=60).collect();
        for length in [0, 1, 7, 8, 9, 31, 317] {
            for factor in [0, 1, 2, 0x1d, 0xff] {
                let mut sum = vec![0xa5; 320];
                add_multiple(&mut sum, &data[..length], factor);
                for (at, byte) in sum.iter().enumerate() {
                    let added = data[..length].get(at).map_or(0, |byte| multiply(*byte, factor));
                    assert_eq!(*byte, 0xa5 ^ added, "{length} {factor} {at}");
                }
                let mut scaled = data[..length].to_vec();
                scale(&mut scaled, factor);
                assert!(scaled.iter().zip(&data).all(|(a, b)| *a == multiply(*b, factor)));
            }
        }
    }
}
