//! The client's half of a handshake.

use rand_chacha::ChaCha12Rng;
use snow::HandshakeState;

use super::cookie::{self, Cookie};
use super::keys::{PresharedKey, PrivateKey, PublicKey};
use super::mac::{MAC_LEN, is_mac_128, mac_128, mac1_key};
use super::noise::{Ephemeral, NO_PSK, PSK_PLACE, data_keys, state};
use super::payload::{InitiationPayload, ResponsePayload};
use super::{HandshakeError, Keys};
use crate::ids::ReceiverIndex;
use crate::wire::{self, Kind, TAG_LEN};

/// Bytes in front of every handshake datagram's Noise message.
pub(super) const HEAD_LEN: usize = 4;
/// Bytes of a public key.
pub(super) const KEY_LEN: usize = 32;

/// A handshake that waits for the server's answer.
#[derive(Debug)]
pub struct Initiator {
    state: HandshakeState,
    server: PublicKey,
    mac1_key: [u8; 32],
    mac1_sent: [u8; MAC_LEN],
    receiver: ReceiverIndex,
    suites: u8,
}

impl Initiator {
    /// Begins a handshake with `remote`: also returns the datagram to send. With a cookie, the datagram proves this end's
    /// address.
    pub fn start(
        local: &PrivateKey,
        remote: &PublicKey,
        psk: Option<&PresharedKey>,
        payload: &InitiationPayload,
        cookie: Option<&Cookie>,
        rng: &mut ChaCha12Rng,
    ) -> Result<(Self, Vec<u8>), HandshakeError> {
        let head = wire::head(Kind::Initiation, payload.receiver);
        let ephemeral = Ephemeral::default();
        ephemeral.draw(rng);
        let mut state = state(local, Some(remote), head, &ephemeral)?;
        let psk = psk.map_or(&NO_PSK, PresharedKey::as_bytes);
        state
            .set_psk(PSK_PLACE, psk)
            .map_err(|_| HandshakeError::Internal)?;

        let mut datagram = head.to_vec();
        datagram.resize(INITIATION_LEN - 2 * MAC_LEN, 0);
        let written = state
            .write_message(&payload.encode(), &mut datagram[HEAD_LEN..])
            .map_err(|_| HandshakeError::Internal)?;
        datagram.truncate(HEAD_LEN + written);
        let mac1_sent = mac_128(&mac1_key(remote), &[&datagram]);
        datagram.extend_from_slice(&mac1_sent);
        let mac2 = cookie.map_or([0; MAC_LEN], |cookie| mac_128(&cookie.0, &[&datagram]));
        datagram.extend_from_slice(&mac2);

        let initiator = Self {
            state,
            server: *remote,
            mac1_key: mac1_key(&local.public()),
            mac1_sent,
            receiver: payload.receiver,
            suites: payload.suites,
        };
        Ok((initiator, datagram))
    }

    /// Takes the server's answer. After an error the handshake still waits: anybody can send a wrong answer.
    pub fn finish(&mut self, datagram: &[u8]) -> Result<(Keys, ResponsePayload), HandshakeError> {
        if wire::kind(datagram) != Some(Kind::Response) || datagram.len() > MAX_RESPONSE_LEN {
            return Err(HandshakeError::Malformed);
        }
        let (message, mac1) = datagram
            .split_last_chunk::<MAC_LEN>()
            .ok_or(HandshakeError::Malformed)?;
        if message.len() < HEAD_LEN + KEY_LEN + TAG_LEN {
            return Err(HandshakeError::Malformed);
        }
        if wire::receiver_index(datagram) != Some(self.receiver)
            || !is_mac_128(&self.mac1_key, &[message], mac1)
        {
            return Err(HandshakeError::NotForUs);
        }
        let mut payload = [0; MAX_RESPONSE_LEN];
        let length = self
            .state
            .read_message(&message[HEAD_LEN..], &mut payload)
            .map_err(|_| HandshakeError::Rejected)?;
        let payload = ResponsePayload::decode(&payload[..length])?;
        if self.suites & payload.suite.bit() == 0 {
            return Err(HandshakeError::Incompatible);
        }
        let (seal, open) = data_keys(&mut self.state, payload.suite);
        let keys = Keys {
            suite: payload.suite,
            seal,
            open,
            local: self.receiver,
            remote: payload.receiver,
        };
        Ok((keys, payload))
    }

    /// The cookie in a busy server's reply to this initiation. Start again with it, at most 2 minutes later.
    pub fn cookie(&self, datagram: &[u8]) -> Option<Cookie> {
        if wire::receiver_index(datagram) != Some(self.receiver) {
            return None;
        }
        cookie::open(&self.server, &self.mac1_sent, datagram)
    }
}

/// Bytes of an initiation: ephemeral key, sealed static key, sealed payload, two MACs.
pub(super) const INITIATION_LEN: usize =
    HEAD_LEN + KEY_LEN + KEY_LEN + TAG_LEN + InitiationPayload::LEN + TAG_LEN + 2 * MAC_LEN;
/// The longest initiation that is read: a later version may say more.
pub(super) const MAX_INITIATION_LEN: usize = INITIATION_LEN + 256;
/// The longest response that is read.
const MAX_RESPONSE_LEN: usize = 1200;
