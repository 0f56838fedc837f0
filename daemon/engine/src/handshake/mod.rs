//! The handshake: two datagrams after which both ends know each other and share keys that nobody else has.
//!
//! Noise IKpsk2 by the `snow` crate, which is used for nothing else: the keys are taken out and seal data with the
//! session's own cipher. Keyed hashes in front of it, as in WireGuard, keep the expensive part from strangers: who does not
//! know the server's public key gets no answer, and who floods must prove its address first.
//!
//! No wall clock: a replayed initiation costs the server two multiplications and a session that never carries a byte.

mod admission;
mod cookie;
mod initiator;
mod keys;
mod mac;
mod noise;
mod payload;
mod responder;
#[cfg(test)]
mod tests;

use crate::crypto::{DirectionKey, Suite};
use crate::ids::ReceiverIndex;

pub use admission::{Admission, Gate};
pub use cookie::{Cookie, CookieKeeper};
pub use initiator::Initiator;
pub use keys::{KeyError, PresharedKey, PrivateKey, PublicKey};
pub use payload::{InitiationPayload, MAX_ADDRESSES, MAX_GATEWAYS, ResponsePayload, VERSION};
pub use responder::{Received, Responder, fingerprint};

/// What both ends have when the handshake is done.
#[derive(Clone, Debug)]
pub struct Keys {
    /// How data is sealed.
    pub suite: Suite,
    /// Seals what this end sends.
    pub seal: DirectionKey,
    /// Opens what the other end sends.
    pub open: DirectionKey,
    /// What this end reads in datagrams for this session.
    pub local: ReceiverIndex,
    /// What this end writes into datagrams for the other end.
    pub remote: ReceiverIndex,
}

/// Why a handshake's datagram was not taken. It gets no answer, and what is under way goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Not a datagram of the expected kind and length.
    #[error("a handshake datagram is malformed")]
    Malformed,
    /// Its sender does not know our public key, or the answer is to somebody else's initiation.
    #[error("a handshake datagram is not for us")]
    NotForUs,
    /// Keys do not fit: another private, public or preshared key, or damage.
    #[error("a handshake datagram was not made with the keys that we expect")]
    Rejected,
    /// The other end speaks a version or chose a cipher that this end does not have.
    #[error("the other end's version has nothing in common with ours")]
    Incompatible,
    /// The cipher crates refused; a bug.
    #[error("a handshake datagram could not be made")]
    Internal,
}
