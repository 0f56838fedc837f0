//! Seals and opens data datagrams in place. Keys come from the handshake; nothing here makes or stores any.

use ring::aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use crate::ids::PathId;
use crate::wire::DATA_HEADER_LEN;

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
}

impl Suite {
    /// The suite that is best for a machine.
    pub fn preferred(aes_is_fast: bool) -> Self {
        if aes_is_fast {
            Self::Aes256Gcm
        } else {
            Self::ChaCha20Poly1305
        }
    }

    /// The suites that a client offers, as a set of bits: every one that is fast there.
    pub fn offer(aes_is_fast: bool) -> u8 {
        Self::ChaCha20Poly1305.bit() | if aes_is_fast { Self::Aes256Gcm.bit() } else { 0 }
    }

    /// The server's choice from what was offered; none if nothing of it is known here.
    pub fn choose(offered: u8, aes_is_fast: bool) -> Option<Self> {
        [
            Self::preferred(aes_is_fast),
            Self::ChaCha20Poly1305,
            Self::Aes256Gcm,
        ]
        .into_iter()
        .find(|suite| offered & suite.bit() != 0)
    }

    /// The suite's number in a handshake.
    pub fn to_wire(self) -> u8 {
        match self {
            Self::ChaCha20Poly1305 => 0,
            Self::Aes256Gcm => 1,
        }
    }

    /// The suite with this number in a handshake.
    pub fn from_wire(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::ChaCha20Poly1305),
            1 => Some(Self::Aes256Gcm),
            _ => None,
        }
    }

    /// The suite's bit in an offer.
    pub fn bit(self) -> u8 {
        1 << self.to_wire()
    }

    fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::ChaCha20Poly1305 => &CHACHA20_POLY1305,
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
}

impl DirectionKey {
    /// A key and its initialisation vector.
    pub fn new(suite: Suite, key: &[u8; KEY_LEN], iv: [u8; IV_LEN]) -> Self {
        let key = UnboundKey::new(suite.algorithm(), key).expect("the keys of both suites have 32 bytes");
        Self {
            key: LessSafeKey::new(key),
            iv,
        }
    }

    /// Seals `out` from `plaintext_from` to its end in place, and appends the tag. `header` is the datagram's.
    pub fn seal(
        &self,
        path: PathId,
        packet_number: u64,
        header: &[u8; DATA_HEADER_LEN],
        out: &mut Vec<u8>,
        plaintext_from: usize,
    ) {
        let (nonce, additional) = self.nonce_and_additional(path, packet_number, header);
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(additional), &mut out[plaintext_from..])
            .expect("a datagram is far shorter than the ciphers allow");
        out.extend_from_slice(tag.as_ref());
    }

    /// Opens `body`, which is everything behind the header, in place. The plaintext is what is returned, as a length from
    /// the beginning of `body`; none if the seal is not right, and then `body` holds nothing of use.
    pub fn open(
        &self,
        path: PathId,
        packet_number: u64,
        header: &[u8; DATA_HEADER_LEN],
        body: &mut [u8],
    ) -> Option<usize> {
        let (nonce, additional) = self.nonce_and_additional(path, packet_number, header);
        self.key
            .open_in_place(nonce, Aad::from(additional), body)
            .ok()
            .map(|plaintext| plaintext.len())
    }

    fn nonce_and_additional(
        &self,
        path: PathId,
        packet_number: u64,
        header: &[u8; DATA_HEADER_LEN],
    ) -> (Nonce, [u8; 16]) {
        let mut nonce = self.iv;
        nonce[3] ^= path.0;
        for (byte, number) in nonce[4..].iter_mut().zip(packet_number.to_be_bytes()) {
            *byte ^= number;
        }
        let mut additional = [0; 16];
        additional[..8].copy_from_slice(header);
        additional[8..].copy_from_slice(&packet_number.to_be_bytes());
        (Nonce::assume_unique_for_key(nonce), additional)
    }
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

    fn sealed(suite: Suite, number: u64) -> (DirectionKey, Vec<u8>, [u8; DATA_HEADER_LEN]) {
        let key = DirectionKey::new(suite, &[9; KEY_LEN], [3; IV_LEN]);
        let header = DataHeader {
            receiver: ReceiverIndex(77),
            path: PathId(2),
            packet_number: number as u32,
        }
        .encode();
        let mut datagram = header.to_vec();
        datagram.extend_from_slice(b"one frame");
        key.seal(PathId(2), number, &header, &mut datagram, DATA_HEADER_LEN);
        (key, datagram, header)
    }

    #[test]
    fn what_was_sealed_opens_and_nothing_else_does() {
        for suite in [Suite::ChaCha20Poly1305, Suite::Aes256Gcm] {
            let number = 0x12_3456_789a;
            let (key, datagram, header) = sealed(suite, number);
            assert_eq!(datagram.len(), DATA_HEADER_LEN + 9 + TAG_LEN);
            assert_eq!(&datagram[..DATA_HEADER_LEN], &header);

            let mut body = datagram[DATA_HEADER_LEN..].to_vec();
            let length = key
                .open(PathId(2), number, &header, &mut body)
                .expect("it is right");
            assert_eq!(&body[..length], b"one frame");

            let opens = |path, number, header: &[u8; 8], body: &[u8]| {
                key.open(path, number, header, &mut body.to_vec()).is_some()
            };
            let body = &datagram[DATA_HEADER_LEN..];
            assert!(!opens(PathId(3), number, &header, body), "another path");
            assert!(
                !opens(PathId(2), number + (1 << 24), &header, body),
                "another number"
            );
            for at in 0..DATA_HEADER_LEN {
                let mut header = header;
                header[at] ^= 1;
                assert!(!opens(PathId(2), number, &header, body), "another header");
            }
            for at in 0..body.len() {
                let mut body = body.to_vec();
                body[at] ^= 0x80;
                assert!(!opens(PathId(2), number, &header, &body), "another body");
            }
            for length in 0..body.len() {
                assert!(
                    !opens(PathId(2), number, &header, &body[..length]),
                    "a shorter body"
                );
            }
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
            assert_eq!(Suite::choose(Suite::offer(client), server), Some(chosen));
        }
        assert_eq!(Suite::choose(0b1000_0000, true), None);
        assert_eq!(
            Suite::choose(0b10, false),
            Some(Suite::Aes256Gcm),
            "slow beats nothing"
        );
    }
}
