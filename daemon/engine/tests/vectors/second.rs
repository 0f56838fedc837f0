//! A second implementation of the handshake and of the seals, made from docs/PROTOCOL.md and the Noise specification alone:
//! no `snow`, nothing of the engine. Only what the vectors need, and slow.

use blake2::digest::consts::{U16, U32};
use blake2::digest::{KeyInit, Mac};
use blake2::{Blake2s256, Blake2sMac, Digest};
use ring::aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use x25519_dalek::{PublicKey, StaticSecret};

pub(crate) type Key = [u8; 32];

pub(crate) fn hash(parts: &[&[u8]]) -> Key {
    let mut hash = Blake2s256::new();
    for part in parts {
        Digest::update(&mut hash, part);
    }
    hash.finalize().into()
}

pub(crate) fn mac_32(key: &[u8], parts: &[&[u8]]) -> Key {
    let mut mac = <Blake2sMac<U32> as KeyInit>::new_from_slice(key).expect("short enough");
    for part in parts {
        Mac::update(&mut mac, part);
    }
    mac.finalize().into_bytes().into()
}

pub(crate) fn mac_16(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let mut mac = <Blake2sMac<U16> as KeyInit>::new_from_slice(key).expect("short enough");
    for part in parts {
        Mac::update(&mut mac, part);
    }
    mac.finalize().into_bytes().into()
}

fn hmac(key: &Key, data: &[u8]) -> Key {
    let mut inner = [0x36; 64];
    let mut outer = [0x5c; 64];
    for (at, byte) in key.iter().enumerate() {
        inner[at] ^= byte;
        outer[at] ^= byte;
    }
    hash(&[&outer, &hash(&[&inner, data])])
}

fn hkdf(chaining_key: &Key, input: &[u8]) -> [Key; 3] {
    let secret = hmac(chaining_key, input);
    let first = hmac(&secret, &[1]);
    let second = hmac(&secret, &[&first[..], &[2]].concat());
    let third = hmac(&secret, &[&second[..], &[3]].concat());
    [first, second, third]
}

fn dh(private: &Key, public: &Key) -> Key {
    StaticSecret::from(*private)
        .diffie_hellman(&PublicKey::from(*public))
        .to_bytes()
}

pub(crate) fn public(private: &Key) -> Key {
    PublicKey::from(&StaticSecret::from(*private)).to_bytes()
}

pub(crate) fn seal(
    algorithm: &'static Algorithm,
    key: &Key,
    nonce: [u8; 12],
    additional: &[u8],
    plaintext: &[u8],
) -> Vec<u8> {
    let key = LessSafeKey::new(UnboundKey::new(algorithm, key).expect("32 bytes"));
    let mut out = plaintext.to_vec();
    key.seal_in_place_append_tag(
        Nonce::assume_unique_for_key(nonce),
        Aad::from(additional),
        &mut out,
    )
    .expect("short enough");
    out
}

/// Noise's symmetric state.
struct Symmetric {
    chaining_key: Key,
    hash: Key,
    key: Key,
}

impl Symmetric {
    fn new(prologue: &[u8], responder: &Key) -> Self {
        // The name is longer than a hash.
        let name = hash(&[b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"]);
        let mut made = Self {
            chaining_key: name,
            hash: name,
            key: [0; 32],
        };
        made.mix_hash(prologue);
        made.mix_hash(responder);
        made
    }

    fn mix_hash(&mut self, data: &[u8]) {
        self.hash = hash(&[&self.hash, data]);
    }

    fn mix_key(&mut self, input: &[u8]) {
        [self.chaining_key, self.key, _] = hkdf(&self.chaining_key, input);
    }

    fn mix_key_and_hash(&mut self, input: &[u8]) {
        let [chaining_key, mixed, key] = hkdf(&self.chaining_key, input);
        (self.chaining_key, self.key) = (chaining_key, key);
        self.mix_hash(&mixed);
    }

    /// Every key seals once in this pattern, so that the nonce is always zero.
    fn seal_and_hash(&mut self, plaintext: &[u8]) -> Vec<u8> {
        let sealed = seal(&CHACHA20_POLY1305, &self.key, [0; 12], &self.hash, plaintext);
        self.mix_hash(&sealed);
        sealed
    }
}

pub(crate) struct Secrets {
    pub(crate) client: Key,
    pub(crate) client_ephemeral: Key,
    pub(crate) server: Key,
    pub(crate) server_ephemeral: Key,
    pub(crate) psk: Key,
}

pub(crate) struct Handshake {
    pub(crate) initiation: Vec<u8>,
    pub(crate) response: Vec<u8>,
    pub(crate) hash: Key,
    /// From client to server, and back.
    pub(crate) split: [Key; 2],
}

/// Both datagrams, and what they lead to.
pub(crate) fn handshake(
    secrets: &Secrets,
    index: [u8; 3],
    cookie: Option<[u8; 16]>,
    initiation_payload: &[u8],
    response_payload: &[u8],
) -> Handshake {
    let (client, server) = (public(&secrets.client), public(&secrets.server));
    let (client_e, server_e) = (
        public(&secrets.client_ephemeral),
        public(&secrets.server_ephemeral),
    );

    let mut initiation = vec![0x81, index[0], index[1], index[2]];
    let mut noise = Symmetric::new(&[&b"sennit 1"[..], &initiation].concat(), &server);
    // e, es, s, ss
    noise.mix_hash(&client_e);
    noise.mix_key(&client_e);
    initiation.extend(client_e);
    noise.mix_key(&dh(&secrets.client_ephemeral, &server));
    initiation.extend(noise.seal_and_hash(&client));
    noise.mix_key(&dh(&secrets.client, &server));
    initiation.extend(noise.seal_and_hash(initiation_payload));
    let mac1 = mac_16(&hash(&[b"sennit 1 mac1", &server]), &[&initiation]);
    initiation.extend(mac1);
    let mac2 = cookie.map_or([0; 16], |cookie| mac_16(&cookie, &[&initiation]));
    initiation.extend(mac2);

    // e, ee, se, psk
    let mut response = vec![0x82, index[0], index[1], index[2]];
    noise.mix_hash(&server_e);
    noise.mix_key(&server_e);
    response.extend(server_e);
    noise.mix_key(&dh(&secrets.server_ephemeral, &client_e));
    noise.mix_key(&dh(&secrets.server_ephemeral, &client));
    noise.mix_key_and_hash(&secrets.psk);
    response.extend(noise.seal_and_hash(response_payload));
    let mac1 = mac_16(&hash(&[b"sennit 1 mac1", &client]), &[&response]);
    response.extend(mac1);

    let [first, second, _] = hkdf(&noise.chaining_key, &[]);
    Handshake {
        initiation,
        response,
        hash: noise.hash,
        split: [first, second],
    }
}

/// Key and initialisation vector of one direction.
pub(crate) fn data_key(split: &Key, suite: u8, hash: &Key) -> (Key, [u8; 12]) {
    let key = mac_32(split, &[b"sennit 1 key", &[suite], hash]);
    let vector = mac_32(split, &[b"sennit 1 iv", &[suite], hash]);
    (key, vector[..12].try_into().expect("12 bytes"))
}

/// A whole data datagram.
pub(crate) fn data_datagram(
    suite: u8,
    (key, iv): (Key, [u8; 12]),
    receiver: [u8; 3],
    path: u8,
    packet_number: u64,
    plaintext: &[u8],
) -> Vec<u8> {
    let number = packet_number.to_be_bytes();
    let mut datagram = vec![0x84, receiver[0], receiver[1], receiver[2], path];
    datagram.extend_from_slice(&number[5..]);
    let additional = [&datagram[..], &number].concat();
    let mut nonce = [0, 0, 0, path, 0, 0, 0, 0, 0, 0, 0, 0];
    nonce[4..].copy_from_slice(&number);
    for (byte, iv) in nonce.iter_mut().zip(iv) {
        *byte ^= iv;
    }
    match suite {
        0 => datagram.extend(seal(&CHACHA20_POLY1305, &key, nonce, &additional, plaintext)),
        1 => datagram.extend(seal(&AES_256_GCM, &key, nonce, &additional, plaintext)),
        _ => {
            datagram.extend(plaintext);
            let tag = seal(&CHACHA20_POLY1305, &key, nonce, &datagram, &[]);
            datagram.extend(tag);
        }
    }
    datagram
}

/// The cookie in a reply.
pub(crate) fn open_cookie(server: &Key, initiation: &[u8], reply: &[u8]) -> [u8; 16] {
    let mac1 = &initiation[initiation.len() - 32..initiation.len() - 16];
    let key = mac_32(&hash(&[b"sennit 1 cookie", server]), &[&reply[4..20]]);
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &key).expect("32 bytes"));
    let mut sealed = reply[20..].to_vec();
    key.open_in_place(
        Nonce::assume_unique_for_key([0; 12]),
        Aad::from(mac1),
        &mut sealed,
    )
    .expect("it is the cookie")[..16]
        .try_into()
        .expect("16 bytes")
}
