//! The server's half of a handshake, in two steps: read who asks, then answer, if the caller wants to.

use rand_chacha::ChaCha12Rng;
use snow::HandshakeState;

use super::initiator::{HEAD_LEN, INITIATION_LEN, MAX_INITIATION_LEN};
use super::keys::{PresharedKey, PrivateKey, PublicKey};
use super::mac::{MAC_LEN, is_mac_128, mac_128, mac1_key};
use super::noise::{Ephemeral, NO_PSK, PSK_PLACE, data_keys, state};
use super::payload::{InitiationPayload, ResponsePayload};
use super::{HandshakeError, Keys};
use crate::wire::{self, Kind, TAG_LEN};

/// Reads initiations.
#[derive(Clone, Copy, Debug)]
pub struct Responder;

/// An initiation whose sender owns the private key of `client`. It may be old: somebody may have recorded it.
#[derive(Debug)]
pub struct Received {
    /// Who asks.
    pub client: PublicKey,
    /// What it says.
    pub payload: InitiationPayload,
    state: HandshakeState,
    ephemeral: Ephemeral,
}

/// The parts of an initiation: what `mac1` covers, `mac1`, what `mac2` covers, `mac2`.
pub(super) struct InitiationParts<'a> {
    pub(super) before_mac1: &'a [u8],
    pub(super) mac1: &'a [u8; MAC_LEN],
    pub(super) before_mac2: &'a [u8],
    pub(super) mac2: &'a [u8; MAC_LEN],
}

/// Takes an initiation apart if its length and kind are right.
pub(super) fn initiation_parts(datagram: &[u8]) -> Option<InitiationParts<'_>> {
    let right_length = (INITIATION_LEN..=MAX_INITIATION_LEN).contains(&datagram.len());
    if !right_length || wire::kind(datagram) != Some(Kind::Initiation) {
        return None;
    }
    let (before_mac2, mac2) = datagram.split_last_chunk()?;
    let (before_mac1, mac1) = before_mac2.split_last_chunk()?;
    Some(InitiationParts {
        before_mac1,
        mac1,
        before_mac2,
        mac2,
    })
}

/// What tells initiations apart before anything is computed. A client sends the same one over every WAN: who remembers the
/// answer to the last few need compute it once.
pub fn fingerprint(datagram: &[u8]) -> Option<[u8; MAC_LEN]> {
    initiation_parts(datagram).map(|parts| *parts.mac1)
}

impl Responder {
    /// Reads an initiation. Cheap for datagrams of who does not know our public key; two multiplications on the curve for
    /// others, so ask [`super::Gate`] first.
    pub fn read(local: &PrivateKey, datagram: &[u8]) -> Result<Received, HandshakeError> {
        let parts = initiation_parts(datagram).ok_or(HandshakeError::Malformed)?;
        if !is_mac_128(&mac1_key(&local.public()), &[parts.before_mac1], parts.mac1) {
            return Err(HandshakeError::NotForUs);
        }
        let receiver = wire::receiver_index(datagram).ok_or(HandshakeError::Malformed)?;
        let ephemeral = Ephemeral::default();
        let head = wire::head(Kind::Initiation, receiver);
        let mut state = state(local, None, head, &ephemeral)?;
        let mut payload = [0; MAX_INITIATION_LEN];
        let length = state
            .read_message(&parts.before_mac1[HEAD_LEN..], &mut payload)
            .map_err(|_| HandshakeError::Rejected)?;
        let payload = InitiationPayload::decode(&payload[..length], receiver)?;
        let client = state
            .get_remote_static()
            .and_then(|key| key.try_into().ok())
            .map(PublicKey)
            .ok_or(HandshakeError::Internal)?;
        Ok(Received {
            client,
            payload,
            state,
            ephemeral,
        })
    }
}

impl Received {
    /// Answers. The keys are proved to be the client's, and the initiation to be new, when the first data opens.
    pub fn respond(
        mut self,
        psk: Option<&PresharedKey>,
        payload: &ResponsePayload,
        rng: &mut ChaCha12Rng,
    ) -> Result<(Keys, Vec<u8>), HandshakeError> {
        self.ephemeral.draw(rng);
        let psk = psk.map_or(&NO_PSK, PresharedKey::as_bytes);
        self.state
            .set_psk(PSK_PLACE, psk)
            .map_err(|_| HandshakeError::Internal)?;
        let encoded = payload.encode();
        let mut datagram = wire::head(Kind::Response, self.payload.receiver).to_vec();
        datagram.resize(HEAD_LEN + 32 + encoded.len() + TAG_LEN, 0);
        let written = self
            .state
            .write_message(&encoded, &mut datagram[HEAD_LEN..])
            .map_err(|_| HandshakeError::Internal)?;
        datagram.truncate(HEAD_LEN + written);
        let mac1 = mac_128(&mac1_key(&self.client), &[&datagram]);
        datagram.extend_from_slice(&mac1);

        let (open, seal) = data_keys(&mut self.state, payload.suite);
        let keys = Keys {
            suite: payload.suite,
            seal,
            open,
            local: payload.receiver,
            remote: self.payload.receiver,
        };
        Ok((keys, datagram))
    }
}
