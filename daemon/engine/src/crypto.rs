//! Seals and opens data datagrams in place. Keys come from the handshake; nothing here makes or stores any.

use ring::aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use crate::ids::PathId;
use crate::settings::Encryption;
use crate::wire::{DATA_HEADER_LEN, TAG_LEN};

/// Bytes of a key, for each suite.
pub const KEY_LEN: usize = 32;
/// Bytes of an initialisation vector.
pub const IV_LEN: usize = 12;

/// How datagrams are sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// Fast on every processor.
    ChaCha20Poly1305,
    /// Two to three times as fast where the processor has instructions for it.
    Aes256Gcm,
    /// Poly1305 alone: nobody can change or forge a datagram, everybody on the way can read it.
    AuthenticateOnly,
}

impl Suite {
    /// The suites that a client offers, as a set of bits: every one that is fast there. One that does not encrypt is only
    /// offered where the user asked for it.
    pub fn offer(aes_is_fast: bool, encryption: Encryption) -> u8 {
        let aes = if aes_is_fast { Self::Aes256Gcm.bit() } else { 0 };
        let clear = match encryption {
            Encryption::On => 0,
            Encryption::Off => Self::AuthenticateOnly.bit(),
        };
        Self::ChaCha20Poly1305.bit() | aes | clear
    }

    /// The server's choice from what was offered; none if nothing of it may be used here. Without encryption only if the
    /// users of both ends asked for that.
    pub fn choose(offered: u8, aes_is_fast: bool, encryption: Encryption) -> Option<Self> {
        let clear = (encryption == Encryption::Off).then_some(Self::AuthenticateOnly);
        let best = if aes_is_fast {
            [Self::Aes256Gcm, Self::ChaCha20Poly1305]
        } else {
            [Self::ChaCha20Poly1305, Self::Aes256Gcm]
        };
        clear
            .into_iter()
            .chain(best)
            .find(|suite| offered & suite.bit() != 0)
    }

    /// The suite's number in a handshake.
    pub fn to_wire(self) -> u8 {
        match self {
            Self::ChaCha20Poly1305 => 0,
            Self::Aes256Gcm => 1,
            Self::AuthenticateOnly => 2,
        }
    }

    /// The suite with this number in a handshake.
    pub fn from_wire(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::ChaCha20Poly1305),
            1 => Some(Self::Aes256Gcm),
            2 => Some(Self::AuthenticateOnly),
            _ => None,
        }
    }

    /// The suite's bit in an offer.
    pub fn bit(self) -> u8 {
        1 << self.to_wire()
    }

    /// Nobody on the way can read what it seals.
    pub fn encrypts(self) -> bool {
        self != Self::AuthenticateOnly
    }

    fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::ChaCha20Poly1305 | Self::AuthenticateOnly => &CHACHA20_POLY1305,
            Self::Aes256Gcm => &AES_256_GCM,
        }
    }
}

/// The key of one direction.
///
/// **Invariant:** the caller never seals two datagrams with one pair of path and packet number.
#[derive(Clone)]
pub struct DirectionKey {
    key: LessSafeKey,
    iv: [u8; IV_LEN],
    suite: Suite,
}

impl DirectionKey {
    /// A key and its initialisation vector.
    pub fn new(suite: Suite, key: &[u8; KEY_LEN], iv: [u8; IV_LEN]) -> Self {
        let key = UnboundKey::new(suite.algorithm(), key).expect("the keys of all suites have 32 bytes");
        Self {
            key: LessSafeKey::new(key),
            iv,
            suite,
        }
    }

    /// How it seals.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// Seals the datagram that begins at `start` with its header and reaches to the end of `out`, in place, and appends the
    /// tag.
    pub fn seal(&self, path: PathId, packet_number: u64, out: &mut Vec<u8>, start: usize) {
        let nonce = self.nonce(path, packet_number);
        let tag = if self.suite.encrypts() {
            let (header, body) = out[start..].split_at_mut(DATA_HEADER_LEN);
            let additional = Aad::from(additional(header, packet_number));
            self.key.seal_in_place_separate_tag(nonce, additional, body)
        } else {
            let additional = Aad::from(&out[start..]);
            self.key.seal_in_place_separate_tag(nonce, additional, &mut [])
        };
        let tag = tag.expect("a datagram is far shorter than the ciphers allow");
        out.extend_from_slice(tag.as_ref());
    }

    /// Opens a datagram in place. The plaintext begins behind the header and has the length that is returned; none if the
    /// seal is not right, and then `datagram` holds nothing of use.
    pub fn open(&self, path: PathId, packet_number: u64, datagram: &mut [u8]) -> Option<usize> {
        let plaintext = datagram.len().checked_sub(DATA_HEADER_LEN + TAG_LEN)?;
        let nonce = self.nonce(path, packet_number);
        if self.suite.encrypts() {
            let (header, body) = datagram.split_at_mut(DATA_HEADER_LEN);
            let additional = Aad::from(additional(header, packet_number));
            self.key.open_in_place(nonce, additional, body).ok()?;
        } else {
            let (authenticated, tag) = datagram.split_at_mut(DATA_HEADER_LEN + plaintext);
            let additional = Aad::from(&*authenticated);
            self.key.open_in_place(nonce, additional, tag).ok()?;
        }
        Some(plaintext)
    }

    fn nonce(&self, path: PathId, packet_number: u64) -> Nonce {
        let mut nonce = self.iv;
        nonce[3] ^= path.0;
        for (byte, number) in nonce[4..].iter_mut().zip(packet_number.to_be_bytes()) {
            *byte ^= number;
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

/// What is authenticated beside the ciphertext.
fn additional(header: &[u8], packet_number: u64) -> [u8; DATA_HEADER_LEN + 8] {
    let mut additional = [0; DATA_HEADER_LEN + 8];
    additional[..DATA_HEADER_LEN].copy_from_slice(header);
    additional[DATA_HEADER_LEN..].copy_from_slice(&packet_number.to_be_bytes());
    additional
}

impl std::fmt::Debug for DirectionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DirectionKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ReceiverIndex;
    use crate::wire::{DataHeader, TAG_LEN};

    const SUITES: [Suite; 3] = [Suite::ChaCha20Poly1305, Suite::Aes256Gcm, Suite::AuthenticateOnly];

    fn sealed(suite: Suite, number: u64) -> (DirectionKey, Vec<u8>) {
        let key = DirectionKey::new(suite, &[9; KEY_LEN], [3; IV_LEN]);
        let header = DataHeader {
            receiver: ReceiverIndex(77),
            path: PathId(2),
            packet_number: number as u32,
        };
        let mut datagram = header.encode().to_vec();
        datagram.extend_from_slice(b"one frame");
        key.seal(PathId(2), number, &mut datagram, 0);
        (key, datagram)
    }

    #[test]
    fn what_was_sealed_opens_and_nothing_else_does() {
        for suite in SUITES {
            let number = 0x12_3456_789a;
            let (key, datagram) = sealed(suite, number);
            assert_eq!(datagram.len(), DATA_HEADER_LEN + 9 + TAG_LEN);

            let mut opened = datagram.clone();
            assert_eq!(key.open(PathId(2), number, &mut opened), Some(9));
            assert_eq!(&opened[DATA_HEADER_LEN..][..9], b"one frame");

            let opens =
                |path, number, datagram: &[u8]| key.open(path, number, &mut datagram.to_vec()).is_some();
            assert!(!opens(PathId(3), number, &datagram), "another path");
            assert!(!opens(PathId(2), number + (1 << 24), &datagram), "another number");
            for at in 0..datagram.len() {
                let mut datagram = datagram.clone();
                datagram[at] ^= 0x80;
                assert!(!opens(PathId(2), number, &datagram), "byte {at} is another");
            }
            for length in 0..datagram.len() {
                assert!(!opens(PathId(2), number, &datagram[..length]), "a shorter one");
            }
        }
    }

    #[test]
    fn only_the_suite_that_says_so_shows_the_plaintext() {
        for suite in SUITES {
            let (_, datagram) = sealed(suite, 5);
            let shown = datagram.windows(9).any(|window| window == b"one frame");
            assert_eq!(shown, suite == Suite::AuthenticateOnly);
        }
    }

    #[test]
    fn both_ends_must_be_fast_for_aes() {
        for (client, server, chosen) in [
            (true, true, Suite::Aes256Gcm),
            (true, false, Suite::ChaCha20Poly1305),
            (false, true, Suite::ChaCha20Poly1305),
            (false, false, Suite::ChaCha20Poly1305),
        ] {
            let offer = Suite::offer(client, Encryption::On);
            assert_eq!(Suite::choose(offer, server, Encryption::On), Some(chosen));
        }
        assert_eq!(Suite::choose(0b1000_0000, true, Encryption::On), None);
        assert_eq!(
            Suite::choose(0b10, false, Encryption::On),
            Some(Suite::Aes256Gcm),
            "slow beats nothing"
        );
    }

    #[test]
    fn both_users_must_ask_for_no_encryption() {
        use Encryption::{Off, On};
        for (client, server, chosen) in [
            (Off, Off, Some(Suite::AuthenticateOnly)),
            (Off, On, Some(Suite::Aes256Gcm)),
            (On, Off, Some(Suite::Aes256Gcm)),
            (On, On, Some(Suite::Aes256Gcm)),
        ] {
            assert_eq!(Suite::choose(Suite::offer(true, client), true, server), chosen);
        }
        assert_eq!(Suite::choose(Suite::AuthenticateOnly.bit(), true, On), None);
    }
}
