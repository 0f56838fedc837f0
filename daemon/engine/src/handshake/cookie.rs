//! Cookies: a busy server sends one to the address that an initiation claims to come from, and remembers nothing. Who sends
//! it back gets datagrams at that address.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::RngCore;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::keys::PublicKey;
use super::mac::{MAC_LEN, cookie_key, is_mac_128, mac_128, mac_256, mac1_key};
use super::responder::initiation_parts;
use crate::time::Instant;
use crate::wire::{self, Kind, TAG_LEN};

/// How long the server makes cookies from one secret; they are taken for as long again.
const SECRET_LIFE: Duration = Duration::from_secs(120);
const HEAD_LEN: usize = 4;
const SALT_LEN: usize = 16;
/// Bytes of a cookie reply: less than of any initiation, so that it amplifies nothing.
pub(super) const REPLY_LEN: usize = HEAD_LEN + SALT_LEN + MAC_LEN + TAG_LEN;

/// Proves an address to the server that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie(pub(super) [u8; MAC_LEN]);

/// Makes and checks a server's cookies.
#[derive(Debug)]
pub struct CookieKeeper {
    server: PublicKey,
    mac1_key: [u8; 32],
    /// The secret in use, and the one before it.
    secrets: [Secret; 2],
}

struct Secret {
    bytes: Zeroizing<[u8; 32]>,
    made: Instant,
}

impl CookieKeeper {
    /// A keeper for the server with this public key.
    pub fn new(server: PublicKey, now: Instant, rng: &mut ChaCha12Rng) -> Self {
        Self {
            server,
            mac1_key: mac1_key(&server),
            secrets: [Secret::new(now, rng), Secret::new(now, rng)],
        }
    }

    /// Whether the initiation's sender knows our public key. Strangers get no answer, not even a cookie.
    pub fn knows_us(&self, datagram: &[u8]) -> bool {
        initiation_parts(datagram)
            .is_some_and(|parts| is_mac_128(&self.mac1_key, &[parts.before_mac1], parts.mac1))
    }

    /// The reply to an initiation from `remote` that shall prove its address; none to strangers.
    pub fn cookie_reply(
        &mut self,
        datagram: &[u8],
        remote: SocketAddr,
        now: Instant,
        rng: &mut ChaCha12Rng,
    ) -> Option<Vec<u8>> {
        if !self.knows_us(datagram) {
            return None;
        }
        let parts = initiation_parts(datagram)?;
        if now.since(self.secrets[0].made) >= SECRET_LIFE {
            self.secrets.swap(0, 1);
            self.secrets[0] = Secret::new(now, rng);
        }
        let mut salt = [0; SALT_LEN];
        rng.fill_bytes(&mut salt);
        let mut sealed = self.secrets[0].cookie(remote).0;
        let tag = sealing_key(&self.server, &salt)
            .seal_in_place_separate_tag(zero_nonce(), Aad::from(parts.mac1), &mut sealed)
            .ok()?;

        let mut reply = Vec::with_capacity(REPLY_LEN);
        reply.extend_from_slice(&wire::head(Kind::CookieReply, wire::receiver_index(datagram)?));
        reply.extend_from_slice(&salt);
        reply.extend_from_slice(&sealed);
        reply.extend_from_slice(tag.as_ref());
        Some(reply)
    }

    /// Whether the initiation carries a cookie that was sent to `remote` not long ago.
    pub fn proves_address(&self, datagram: &[u8], remote: SocketAddr, now: Instant) -> bool {
        let Some(parts) = initiation_parts(datagram) else {
            return false;
        };
        // Most initiations carry none; that costs no hash.
        if *parts.mac2 == [0; MAC_LEN] {
            return false;
        }
        self.secrets.iter().any(|secret| {
            now.since(secret.made) < 2 * SECRET_LIFE
                && is_mac_128(&secret.cookie(remote).0, &[parts.before_mac2], parts.mac2)
        })
    }
}

impl Secret {
    fn new(now: Instant, rng: &mut ChaCha12Rng) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *bytes);
        Self { bytes, made: now }
    }

    fn cookie(&self, remote: SocketAddr) -> Cookie {
        let port = remote.port().to_be_bytes();
        // The same address, whatever kind of socket saw it.
        Cookie(match remote.ip().to_canonical() {
            IpAddr::V4(address) => mac_128(&*self.bytes, &[&address.octets(), &port]),
            IpAddr::V6(address) => mac_128(&*self.bytes, &[&address.octets(), &port]),
        })
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// The cookie in a reply from `server` to the initiation whose `mac1` is given.
pub(super) fn open(server: &PublicKey, mac1: &[u8; MAC_LEN], reply: &[u8]) -> Option<Cookie> {
    if reply.len() != REPLY_LEN || wire::kind(reply) != Some(Kind::CookieReply) {
        return None;
    }
    let (salt, sealed) = reply.get(HEAD_LEN..)?.split_first_chunk()?;
    let mut sealed: [u8; MAC_LEN + TAG_LEN] = *sealed.first_chunk()?;
    let cookie = sealing_key(server, salt)
        .open_in_place(zero_nonce(), Aad::from(mac1), &mut sealed)
        .ok()?;
    cookie.first_chunk().copied().map(Cookie)
}

/// A key for one reply.
fn sealing_key(server: &PublicKey, salt: &[u8; SALT_LEN]) -> LessSafeKey {
    let key = mac_256(&cookie_key(server), &[salt]);
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &key).expect("the key has 32 bytes"))
}

/// Every key seals once.
fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}
