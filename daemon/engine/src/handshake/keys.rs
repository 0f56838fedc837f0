//! Keys that people make, store and give to each other: 32 bytes, as base64.

use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::RngCore;
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

/// Text that is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key is 44 characters of base64 that stand for 32 bytes")]
pub struct KeyError;

/// Says who somebody is. Not secret, though strangers who do not know it get no answer from its owner.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

/// Proves that somebody is who its public key says. Never shown, wiped when dropped.
#[derive(Clone)]
pub struct PrivateKey {
    secret: StaticSecret,
    public: PublicKey,
}

/// A second secret that both ends share, for who fears that the curve will be broken. Never shown, wiped when dropped.
#[derive(Clone)]
pub struct PresharedKey(Zeroizing<[u8; 32]>);

impl PrivateKey {
    /// The key with these bytes.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        let secret = StaticSecret::from(*bytes);
        let public = PublicKey(x25519_dalek::PublicKey::from(&secret).to_bytes());
        Self { secret, public }
    }

    /// A new key. The generator must have been seeded by the system.
    pub fn generate(rng: &mut ChaCha12Rng) -> Self {
        Self::from_bytes(&random(rng))
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// The key as text, for the one file where it is kept.
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.secret.as_bytes()))
    }

    pub(super) fn as_bytes(&self) -> &[u8; 32] {
        self.secret.as_bytes()
    }
}

impl PresharedKey {
    /// The key with these bytes.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(Zeroizing::new(*bytes))
    }

    /// A new key. The generator must have been seeded by the system.
    pub fn generate(rng: &mut ChaCha12Rng) -> Self {
        Self(random(rng))
    }

    /// The key as text, for the files of the two ends.
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(*self.0))
    }

    pub(super) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

fn random(rng: &mut ChaCha12Rng) -> Zeroizing<[u8; 32]> {
    let mut bytes = Zeroizing::new([0; 32]);
    rng.fill_bytes(&mut *bytes);
    bytes
}

fn decode(text: &str) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    // The decoder asks for room for whole groups of three.
    let mut room = Zeroizing::new([0; 33]);
    let text = text.trim();
    if text.len() != 44 {
        return Err(KeyError);
    }
    match STANDARD.decode_slice(text, &mut *room) {
        Ok(32) => room.first_chunk().map(|key| Zeroizing::new(*key)).ok_or(KeyError),
        _ => Err(KeyError),
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(|bytes| Self(*bytes))
    }
}

impl FromStr for PrivateKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(|bytes| Self::from_bytes(&bytes))
    }
}

impl FromStr for PresharedKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(Self)
    }
}

impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PrivateKey(hidden)")
    }
}

impl std::fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PresharedKey(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    #[test]
    fn the_example_of_rfc_7748() {
        let alice = PrivateKey::from_bytes(&[
            0x77, 0x07, 0x6d, 0x0a, 0x73, 0x18, 0xa5, 0x7d, 0x3c, 0x16, 0xc1, 0x72, 0x51, 0xb2, 0x66, 0x45,
            0xdf, 0x4c, 0x2f, 0x87, 0xeb, 0xc0, 0x99, 0x2a, 0xb1, 0x77, 0xfb, 0xa5, 0x1d, 0xb9, 0x2c, 0x2a,
        ]);
        assert_eq!(
            alice.public().to_string(),
            "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="
        );
    }

    #[test]
    fn keys_come_back_from_text_and_hide_themselves() {
        let mut rng = ChaCha12Rng::from_seed([1; 32]);
        let private = PrivateKey::generate(&mut rng);
        let text = private.to_base64();
        let again: PrivateKey = format!("{}\n", *text).parse().expect("a file ends in a newline");
        assert_eq!(again.public(), private.public());
        assert_eq!(private.public().to_string().parse(), Ok(private.public()));
        assert!(!format!("{private:?}").contains(text.as_str()));

        let shared = PresharedKey::generate(&mut rng);
        let again: PresharedKey = shared.to_base64().parse().expect("as written");
        assert_eq!(again.as_bytes(), shared.as_bytes());
        assert_eq!(format!("{shared:?}"), "PresharedKey(hidden)");
    }

    #[test]
    fn other_text_is_no_key() {
        let key = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";
        assert!(key.parse::<PublicKey>().is_ok());
        for text in [
            "",
            "abc",
            &key[..43],
            &format!("{key}="),
            &key.replace('=', "A"),
            &key.replace('h', "*"),
        ] {
            assert_eq!(text.parse::<PublicKey>(), Err(KeyError), "{text}");
        }
    }
}
