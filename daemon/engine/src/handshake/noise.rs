//! The border to the `snow` crate: which Noise protocol, where its randomness comes from, and how data keys follow from it.

use std::sync::{Arc, OnceLock};

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::RngCore;
use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};
use zeroize::Zeroizing;

use super::HandshakeError;
use super::keys::{PrivateKey, PublicKey};
use super::mac::mac_256;
use crate::crypto::{DirectionKey, IV_LEN, Suite};

const PROTOCOL: &str = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
/// Where the preshared key is mixed in.
pub(super) const PSK_PLACE: usize = 2;
/// Stands for "no preshared key".
pub(super) const NO_PSK: [u8; 32] = [0; 32];
/// Both ends hash this first: another protocol, version or index never leads to the same keys.
const PROLOGUE: &[u8] = b"sennit 1";

/// The bytes of the ephemeral private key; drawn when the key is made, which for a responder is later than the rest.
#[derive(Clone, Default)]
pub(super) struct Ephemeral(Arc<OnceLock<Zeroizing<[u8; 32]>>>);

impl Ephemeral {
    /// Draws the bytes. A second call changes nothing.
    pub(super) fn draw(&self, rng: &mut ChaCha12Rng) {
        self.0.get_or_init(|| {
            let mut bytes = Zeroizing::new([0; 32]);
            rng.fill_bytes(&mut *bytes);
            bytes
        });
    }
}

impl Random for Ephemeral {
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), snow::Error> {
        let bytes = self.0.get().ok_or(snow::Error::Rng)?;
        if out.len() != bytes.len() {
            return Err(snow::Error::Rng);
        }
        out.copy_from_slice(&**bytes);
        Ok(())
    }
}

impl std::fmt::Debug for Ephemeral {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ephemeral(hidden)")
    }
}

struct Resolver(Ephemeral);

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(self.0.clone()))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

/// The state before the first message. `head` is the first four bytes of the initiation, `remote` the server's key at the
/// client.
pub(super) fn state(
    local: &PrivateKey,
    remote: Option<&PublicKey>,
    head: [u8; 4],
    ephemeral: &Ephemeral,
) -> Result<HandshakeState, HandshakeError> {
    let build = || -> Result<HandshakeState, snow::Error> {
        let params: NoiseParams = PROTOCOL.parse()?;
        let prologue = [PROLOGUE, &head].concat();
        let builder = Builder::with_resolver(params, Box::new(Resolver(ephemeral.clone())))
            .local_private_key(local.as_bytes())?
            .prologue(&prologue)?
            .psk(PSK_PLACE as u8, &NO_PSK)?;
        match remote {
            Some(remote) => builder.remote_public_key(&remote.0)?.build_initiator(),
            None => builder.build_responder(),
        }
    };
    build().map_err(|_| HandshakeError::Internal)
}

/// The data keys of a finished handshake: from initiator to responder, and back.
pub(super) fn data_keys(state: &mut HandshakeState, suite: Suite) -> (DirectionKey, DirectionKey) {
    let (first, second) = state.dangerously_get_raw_split();
    let (first, second) = (Zeroizing::new(first), Zeroizing::new(second));
    let hash = state.get_handshake_hash();
    let derive = |split: &[u8; 32]| {
        let suite_number = [suite.to_wire()];
        let key = Zeroizing::new(mac_256(split, &[b"sennit 1 key", &suite_number, hash]));
        let vector = mac_256(split, &[b"sennit 1 iv", &suite_number, hash]);
        let mut iv = [0; IV_LEN];
        iv.copy_from_slice(&vector[..IV_LEN]);
        DirectionKey::new(suite, &key, iv)
    };
    (derive(&first), derive(&second))
}
