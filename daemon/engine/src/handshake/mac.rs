//! Keyed hashes of handshake datagrams: `mac1` shows that the sender knows the receiver's public key, `mac2` that it gets
//! datagrams at the address that it sends from. Labels keep every use apart from the others.

use blake2::digest::consts::{U16, U32};
use blake2::digest::{KeyInit, Mac};
use blake2::{Blake2s256, Blake2sMac, Digest};

use super::keys::PublicKey;

/// Bytes of `mac1` and of `mac2`.
pub(super) const MAC_LEN: usize = 16;

type Mac128 = Blake2sMac<U16>;
type Mac256 = Blake2sMac<U32>;

/// The key of `mac1` in datagrams to the owner of `receiver`.
pub(super) fn mac1_key(receiver: &PublicKey) -> [u8; 32] {
    labelled("sennit 1 mac1", receiver)
}

/// What seals cookies from the owner of `server`.
pub(super) fn cookie_key(server: &PublicKey) -> [u8; 32] {
    labelled("sennit 1 cookie", server)
}

fn labelled(label: &str, key: &PublicKey) -> [u8; 32] {
    Blake2s256::new_with_prefix(label)
        .chain_update(key.0)
        .finalize()
        .into()
}

fn keyed_128(key: &[u8], parts: &[&[u8]]) -> Mac128 {
    let mut mac = <Mac128 as KeyInit>::new_from_slice(key).expect("the key has at most 32 bytes");
    for part in parts {
        Mac::update(&mut mac, part);
    }
    mac
}

/// BLAKE2s with a key and 16 bytes of output.
pub(super) fn mac_128(key: &[u8], parts: &[&[u8]]) -> [u8; MAC_LEN] {
    keyed_128(key, parts).finalize().into_bytes().into()
}

/// Whether `mac` is the keyed hash, in constant time.
pub(super) fn is_mac_128(key: &[u8], parts: &[&[u8]], mac: &[u8]) -> bool {
    keyed_128(key, parts).verify_slice(mac).is_ok()
}

/// BLAKE2s with a key and 32 bytes of output.
pub(super) fn mac_256(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = <Mac256 as KeyInit>::new_from_slice(key).expect("the key has 32 bytes");
    for part in parts {
        Mac::update(&mut mac, part);
    }
    mac.finalize().into_bytes().into()
}
