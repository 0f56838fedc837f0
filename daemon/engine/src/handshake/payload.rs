//! What the two ends tell each other inside the handshake. Sealed and authenticated, but the client may be of another version:
//! fields that a later version appends are not read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::HandshakeError;
use crate::crypto::Suite;
use crate::ids::{PathId, ReceiverIndex};
use crate::settings::Mode;
use crate::wire::frame::{mode_from_wire, mode_to_wire};

/// The version of the payloads that this end writes. Later ones only append fields.
pub const VERSION: u8 = 1;
/// Most inner addresses of a client.
pub const MAX_ADDRESSES: usize = 4;
/// Most inner addresses of a server.
pub const MAX_GATEWAYS: usize = 2;

/// From client to server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitiationPayload {
    /// [`VERSION`] of the client.
    pub version: u8,
    /// The ciphers that the client offers, as [`Suite::offer`] writes them.
    pub suites: u8,
    /// A random number of the client's process: another one means that it forgot its session.
    pub instance: u64,
    /// The server's, as the client knows it from before; 0 if it does not.
    pub peer_instance: u64,
    /// What the server shall write into datagrams to the client. Travels in the initiation's clear head, authenticated.
    pub receiver: ReceiverIndex,
    /// How packets are spread.
    pub mode: Mode,
    /// The first path of the new session, which is the one that the initiation came on.
    pub path: PathId,
}

/// From server to client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponsePayload {
    /// The cipher that the server chose.
    pub suite: Suite,
    /// A random number of the server's process.
    pub instance: u64,
    /// Whether the server still has the session that the client had with it.
    pub resumed: bool,
    /// What the client shall write into datagrams to the server.
    pub receiver: ReceiverIndex,
    /// The client's inner addresses and their prefix lengths, at most [`MAX_ADDRESSES`].
    pub addresses: Vec<(IpAddr, u8)>,
    /// The server's inner addresses, at most [`MAX_GATEWAYS`].
    pub gateway: Vec<IpAddr>,
    /// How busy the server is, percent of what it can do; more than 100 if it has more to do than that.
    pub load: u8,
}

impl InitiationPayload {
    pub(super) const LEN: usize = 20;

    pub(super) fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[0] = self.version;
        out[1] = self.suites;
        out[2..10].copy_from_slice(&self.instance.to_be_bytes());
        out[10..18].copy_from_slice(&self.peer_instance.to_be_bytes());
        out[18] = mode_to_wire(self.mode);
        out[19] = self.path.0;
        out
    }

    pub(super) fn decode(bytes: &[u8], receiver: ReceiverIndex) -> Result<Self, HandshakeError> {
        let mut fields = Fields(bytes);
        let payload = Self {
            version: fields.u8()?,
            suites: fields.u8()?,
            instance: u64::from_be_bytes(fields.array()?),
            peer_instance: u64::from_be_bytes(fields.array()?),
            receiver,
            mode: mode_from_wire(fields.u8()?),
            path: PathId(fields.u8()?),
        };
        if payload.version == 0 {
            return Err(HandshakeError::Incompatible);
        }
        Ok(payload)
    }
}

impl ResponsePayload {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.suite.to_wire(), u8::from(self.resumed)];
        out.extend_from_slice(&self.instance.to_be_bytes());
        out.extend_from_slice(&self.receiver.0.to_be_bytes()[1..]);
        out.push(self.addresses.len().min(MAX_ADDRESSES) as u8);
        for (address, prefix) in self.addresses.iter().take(MAX_ADDRESSES) {
            write_address(&mut out, *address);
            out.push(*prefix);
        }
        out.push(self.gateway.len().min(MAX_GATEWAYS) as u8);
        for address in self.gateway.iter().take(MAX_GATEWAYS) {
            write_address(&mut out, *address);
        }
        out.push(self.load);
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, HandshakeError> {
        let mut fields = Fields(bytes);
        let suite = Suite::from_wire(fields.u8()?).ok_or(HandshakeError::Incompatible)?;
        let resumed = fields.u8()? & 1 != 0;
        let instance = u64::from_be_bytes(fields.array()?);
        let [high, middle, low] = fields.array()?;
        let receiver = ReceiverIndex(u32::from_be_bytes([0, high, middle, low]));
        let addresses = (0..fields.count(MAX_ADDRESSES)?)
            .map(|_| {
                let address = fields.address()?;
                let prefix = fields.u8()?;
                let longest = if address.is_ipv4() { 32 } else { 128 };
                if prefix > longest {
                    return Err(HandshakeError::Malformed);
                }
                Ok((address, prefix))
            })
            .collect::<Result<_, _>>()?;
        let gateway = (0..fields.count(MAX_GATEWAYS)?)
            .map(|_| fields.address())
            .collect::<Result<_, _>>()?;
        // The first servers did not say.
        let load = fields.u8().unwrap_or(0);
        Ok(Self {
            suite,
            instance,
            resumed,
            receiver,
            addresses,
            gateway,
            load,
        })
    }
}

fn write_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            out.push(4);
            out.extend_from_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            out.push(6);
            out.extend_from_slice(&address.octets());
        }
    }
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], HandshakeError> {
        let (bytes, rest) = self.0.split_first_chunk::<N>().ok_or(HandshakeError::Malformed)?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn u8(&mut self) -> Result<u8, HandshakeError> {
        self.array().map(|[byte]| byte)
    }

    fn count(&mut self, most: usize) -> Result<usize, HandshakeError> {
        let count = usize::from(self.u8()?);
        if count > most {
            return Err(HandshakeError::Malformed);
        }
        Ok(count)
    }

    fn address(&mut self) -> Result<IpAddr, HandshakeError> {
        match self.u8()? {
            4 => Ok(Ipv4Addr::from(self.array::<4>()?).into()),
            6 => Ok(Ipv6Addr::from(self.array::<16>()?).into()),
            _ => Err(HandshakeError::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn initiation() -> InitiationPayload {
        InitiationPayload {
            version: VERSION,
            suites: 3,
            instance: 0x0102_0304_0506_0708,
            peer_instance: 9,
            receiver: ReceiverIndex(5),
            mode: Mode::Redundant,
            path: PathId(2),
        }
    }

    proptest! {
        #[test]
        fn a_response_comes_back_whatever_is_appended(
            addresses in prop::collection::vec(any::<IpAddr>(), 0..=MAX_ADDRESSES),
            gateway in prop::collection::vec(any::<IpAddr>(), 0..=MAX_GATEWAYS),
            receiver in 0..1u32 << 24, instance in any::<u64>(), resumed in any::<bool>(), load in any::<u8>(),
            appended in prop::collection::vec(any::<u8>(), 0..9),
        ) {
            let payload = ResponsePayload {
                suite: Suite::Aes256Gcm, instance, resumed, receiver: ReceiverIndex(receiver),
                addresses: addresses.into_iter().map(|address| (address, 24)).collect(), gateway, load,
            };
            let mut bytes = payload.encode();
            bytes.extend_from_slice(&appended);
            prop_assert_eq!(ResponsePayload::decode(&bytes), Ok(payload));
        }

        #[test]
        fn any_bytes_can_be_decoded(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = ResponsePayload::decode(&bytes);
            let _ = InitiationPayload::decode(&bytes, ReceiverIndex(0));
        }
    }

    #[test]
    fn an_initiation_comes_back_whatever_is_appended() {
        let mut bytes = initiation().encode().to_vec();
        bytes.push(1);
        assert_eq!(
            InitiationPayload::decode(&bytes, ReceiverIndex(5)),
            Ok(initiation())
        );
        for length in 0..InitiationPayload::LEN {
            assert!(InitiationPayload::decode(&bytes[..length], ReceiverIndex(5)).is_err());
        }
    }

    #[test]
    fn a_mode_of_a_later_version_is_speed() {
        let mut bytes = initiation().encode();
        bytes[18] = 200;
        let payload = InitiationPayload::decode(&bytes, ReceiverIndex(5)).expect("it is read");
        assert_eq!(payload.mode, Mode::Speed);
    }
}
