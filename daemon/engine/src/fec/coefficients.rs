//! The coefficients of a parity, which both ends compute from its key: RFC 8681 (section 3.6, density 15: none is zero)
//! with the generator of RFC 8682.

/// TinyMT32 with the parameters of RFC 8682.
struct TinyMt32([u32; 4]);

impl TinyMt32 {
    const FIRST: u32 = 0x8f70_11ee;
    const SECOND: u32 = 0xfc78_ff1f;
    const TEMPER: u32 = 0x3793_fdff;

    fn new(seed: u32) -> Self {
        let mut state = [seed, Self::FIRST, Self::SECOND, Self::TEMPER];
        for step in 1..8usize {
            let before = state[(step - 1) & 3];
            let mixed = 1_812_433_253u32.wrapping_mul(before ^ before >> 30);
            state[step & 3] ^= mixed.wrapping_add(step as u32);
        }
        let mut generator = Self(state);
        for _ in 0..8 {
            generator.step();
        }
        generator
    }

    fn step(&mut self) {
        let [s0, s1, s2, s3] = self.0;
        let mut x = s0 & 0x7fff_ffff ^ s1 ^ s2;
        x ^= x << 1;
        let y = s3 ^ s3 >> 1 ^ x;
        let odd = 0u32.wrapping_sub(y & 1);
        self.0 = [s1, s2 ^ odd & Self::FIRST, x ^ y << 10 ^ odd & Self::SECOND, y];
    }

    fn next(&mut self) -> u32 {
        self.step();
        let [s0, _, s2, s3] = self.0;
        let sum = s0.wrapping_add(s2 >> 8);
        s3 ^ sum ^ 0u32.wrapping_sub(sum & 1) & Self::TEMPER
    }
}

/// The coefficients of the packets that a parity with this key covers, from the first one on.
pub(super) fn coefficients(key: u16) -> impl Iterator<Item = u8> {
    let mut generator = TinyMt32::new(key.into());
    std::iter::repeat_with(move || generator.next() as u8).filter(|coefficient| *coefficient != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8682, section 2.3: the first numbers from seed 1.
    #[test]
    fn the_generator_is_that_of_the_rfc() {
        let mut generator = TinyMt32::new(1);
        let numbers: Vec<u32> = (0..5).map(|_| generator.next()).collect();
        assert_eq!(
            numbers,
            [
                2_545_341_989,
                981_918_433,
                3_715_302_833,
                2_387_538_352,
                3_591_001_365
            ]
        );
    }

    #[test]
    fn none_is_zero() {
        assert!((0..1000).all(|key| coefficients(key).take(300).all(|one| one != 0)));
    }
}
