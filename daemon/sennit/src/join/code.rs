//! Join codes: all that a client needs to find a server, to know it, and to be let in once, as one line that can be
//! pasted, read aloud, or shown to a camera.
//!
//! Base32 (RFC 4648, without padding) of a version, a kind, the expiry, a 16-byte secret, for a code of a server its
//! public key and addresses, and four bytes of BLAKE2s over all of it against typing errors. Written in groups behind
//! `SENNIT-`; case, spaces and hyphens do not count.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use blake2::{Blake2s256, Digest};
use data_encoding::BASE32_NOPAD;
use zeroize::Zeroizing;

use crate::Result;
use crate::config::Endpoint;
use crate::key::{PrivateKey, PublicKey, random};
use crate::registry::UnixTime;

const PREFIX: &str = "SENNIT";
const VERSION: u8 = 1;
const CHECKSUM: usize = 4;
/// The most addresses of a server: one of each IP version, and names.
const MOST_ADDRESSES: usize = 4;
/// Characters between two hyphens.
const GROUP: usize = 8;

/// A secret that counts once.
type Secret = Zeroizing<[u8; 16]>;

/// A join code.
#[derive(Clone, PartialEq, Eq)]
pub struct Code {
    /// When it ends.
    pub expires: UnixTime,
    /// What admits its holder, once.
    secret: Secret,
    /// The server; none in a code that was made before its server was.
    pub server: Option<ServerIdentity>,
}

/// A server as a code names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerIdentity {
    /// Its public key.
    pub public_key: PublicKey,
    /// Where it is, the preferred one first.
    pub addresses: Vec<Endpoint>,
}

impl Code {
    /// A new code with a secret of its own.
    pub fn new(expires: UnixTime, server: Option<ServerIdentity>) -> Result<Self> {
        let mut secret = Secret::default();
        random(&mut secret[..])?;
        Ok(Self {
            expires,
            secret,
            server,
        })
    }

    /// The key by which whoever holds an invitation proves it, once.
    pub fn guest_key(&self) -> PrivateKey {
        self.derive("sennit invitation: guest")
    }

    /// The key by which a server that was made with this code proves it, until a client knows the server's own.
    pub fn first_contact_key(&self) -> PrivateKey {
        self.derive("sennit first contact: server")
    }

    fn derive(&self, purpose: &str) -> PrivateKey {
        let mut hash = Blake2s256::new();
        hash.update(purpose.as_bytes());
        hash.update([0]);
        hash.update(&self.secret[..]);
        PrivateKey::from_bytes(Zeroizing::new(hash.finalize().into()))
    }

    fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(vec![VERSION, u8::from(self.server.is_some())]);
        // Minutes: four bytes of them last for eight thousand years.
        let minutes = u32::try_from(self.expires.div_ceil(60)).unwrap_or(u32::MAX);
        out.extend_from_slice(&minutes.to_be_bytes());
        out.extend_from_slice(&self.secret[..]);
        if let Some(server) = &self.server {
            out.extend_from_slice(server.public_key.as_bytes());
            let addresses = &server.addresses[..server.addresses.len().min(MOST_ADDRESSES)];
            out.push(addresses.len() as u8);
            for address in addresses {
                write_address(&mut out, address);
            }
        }
        let sum = checksum(&out);
        out.extend_from_slice(&sum);
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, CodeError> {
        let (body, sum) = bytes.split_last_chunk::<CHECKSUM>().ok_or(CodeError::Short)?;
        if checksum(body) != *sum {
            return Err(CodeError::Damaged);
        }
        let mut fields = Fields(body);
        if fields.array()? != [VERSION] {
            return Err(CodeError::Later);
        }
        let has_server = fields.array::<1>()? != [0];
        let minutes = u32::from_be_bytes(fields.array()?);
        let secret = Zeroizing::new(fields.array::<16>()?);
        let server = if has_server {
            let public_key = PublicKey::from_bytes(fields.array()?);
            let [count] = fields.array()?;
            let addresses = (0..count).map(|_| fields.address()).collect::<Result<_, _>>()?;
            Some(ServerIdentity {
                public_key,
                addresses,
            })
        } else {
            None
        };
        Ok(Self {
            expires: UnixTime::from(minutes) * 60,
            secret,
            server,
        })
    }
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM] {
    let mut hash = Blake2s256::new();
    hash.update(b"sennit join code");
    hash.update(body);
    let hash = hash.finalize();
    [hash[0], hash[1], hash[2], hash[3]]
}

/// Kind (4, 6, or 1 for a name), port, and the address's bytes; a name has its length before it.
fn write_address(out: &mut Vec<u8>, endpoint: &Endpoint) {
    let port = endpoint.port.to_be_bytes();
    if let Ok(address) = endpoint.host.parse::<Ipv4Addr>() {
        out.push(4);
        out.extend_from_slice(&port);
        out.extend_from_slice(&address.octets());
    } else if let Ok(address) = endpoint.host.parse::<Ipv6Addr>() {
        out.push(6);
        out.extend_from_slice(&port);
        out.extend_from_slice(&address.octets());
    } else {
        // An endpoint's name has at most 253 characters.
        out.push(1);
        out.extend_from_slice(&port);
        out.push(endpoint.host.len() as u8);
        out.extend_from_slice(endpoint.host.as_bytes());
    }
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], CodeError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(CodeError::Damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodeError> {
        let taken = self.take(N)?;
        <[u8; N]>::try_from(taken).map_err(|_| CodeError::Damaged)
    }

    fn address(&mut self) -> Result<Endpoint, CodeError> {
        let [kind] = self.array()?;
        let port = u16::from_be_bytes(self.array()?);
        let host = match kind {
            4 => Ipv4Addr::from(self.array::<4>()?).to_string(),
            6 => format!("[{}]", Ipv6Addr::from(self.array::<16>()?)),
            1 => {
                let [length] = self.array()?;
                String::from_utf8_lossy(self.take(length.into())?).into_owned()
            }
            _ => return Err(CodeError::Later),
        };
        // What a code says goes through the same checks as what a user writes.
        format!("{host}:{port}").parse().map_err(|_| CodeError::Damaged)
    }
}

/// Why a text is no join code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// It does not begin as one.
    #[error("this is not a join code: it begins with {PREFIX}-")]
    NotACode,
    /// Much of it is missing.
    #[error("this code is cut off: copy the whole line")]
    Short,
    /// A character is wrong or missing.
    #[error("a character of this code is wrong or missing: copy it again")]
    Damaged,
    /// A later version made it.
    #[error("this code was made by a later version of sennit: update this machine")]
    Later,
}

impl FromStr for Code {
    type Err = CodeError;

    fn from_str(text: &str) -> Result<Self, CodeError> {
        let characters = text.chars().filter(|c| !c.is_whitespace() && *c != '-');
        let text: Zeroizing<String> = Zeroizing::new(characters.map(|c| c.to_ascii_uppercase()).collect());
        let text = text.strip_prefix(PREFIX).ok_or(CodeError::NotACode)?;
        if text.len() < 40 {
            return Err(CodeError::Short);
        }
        let bytes = BASE32_NOPAD.decode(text.as_bytes()).map(Zeroizing::new);
        Self::decode(&bytes.map_err(|_| CodeError::Damaged)?)
    }
}

/// As it is pasted. Whoever reads it can join: it goes to the user, and to nobody's log.
impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = Zeroizing::new(BASE32_NOPAD.encode(&self.encode()));
        f.write_str(PREFIX)?;
        for group in text.as_bytes().chunks(GROUP) {
            // Base32 is ASCII.
            write!(f, "-{}", std::str::from_utf8(group).unwrap_or_default())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code(secret, expires {}, {:?})", self.expires, self.server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code() -> Code {
        let endpoint = |text: &str| text.parse::<Endpoint>().unwrap();
        let server = ServerIdentity {
            public_key: PrivateKey::generate().unwrap().public(),
            addresses: vec![
                endpoint("203.0.113.5:7300"),
                endpoint("[2001:db8::5]:7301"),
                endpoint("vm.example.net:443"),
            ],
        };
        Code::new(1_800_000_000, Some(server)).unwrap()
    }

    #[test]
    fn a_code_is_read_as_it_was_written_and_as_people_type_it() {
        for code in [
            code(),
            Code {
                server: None,
                ..code()
            },
        ] {
            let text = code.to_string();
            assert!(text.starts_with("SENNIT-"), "{text}");
            assert_eq!(text.parse::<Code>(), Ok(code.clone()));
            let typed = text.to_lowercase().replace('-', " ");
            assert_eq!(format!("  {typed}\n").parse::<Code>(), Ok(code));
        }
    }

    #[test]
    fn any_wrong_character_is_noticed() {
        let text = code().to_string();
        let wrong = |text: &str| text.parse::<Code>().unwrap_err();
        for at in "SENNIT-".len()..text.len() {
            let mut bytes = text.clone().into_bytes();
            if bytes[at] == b'-' {
                continue;
            }
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let error = wrong(std::str::from_utf8(&bytes).unwrap());
            assert_eq!(error, CodeError::Damaged, "{at}");
            let mut missing = text.clone();
            missing.remove(at);
            assert!(missing.parse::<Code>().is_err(), "{at}");
        }
        assert_eq!(wrong("hello"), CodeError::NotACode);
        assert_eq!(wrong("SENNIT-AEAQ"), CodeError::Short);
        assert_eq!(wrong(&text[..text.len() / 2]), CodeError::Damaged);
    }

    #[test]
    fn no_text_makes_it_panic() {
        let text = code().to_string();
        for length in 0..text.len() {
            let _ = text[..length].parse::<Code>();
        }
        let _ = "SENNIT-ÄÖÜ-äöü-ßßßßßßßßßßßßßßßßßßßßßßßßßßßßßßßßßßßßßßßßßßßßß".parse::<Code>();
    }

    #[test]
    fn a_code_of_a_later_version_says_so() {
        let mut body = code().encode().to_vec();
        body.truncate(body.len() - CHECKSUM);
        body[0] = VERSION + 1;
        let sum = checksum(&body);
        body.extend_from_slice(&sum);
        let text = format!("SENNIT-{}", BASE32_NOPAD.encode(&body));
        assert_eq!(text.parse::<Code>(), Err(CodeError::Later));
    }

    #[test]
    fn the_two_keys_of_a_code_are_not_the_same_and_nobody_prints_its_secret() {
        let code = code();
        assert!(code.guest_key() == code.guest_key());
        assert!(code.guest_key() != code.first_contact_key());
        assert!(!format!("{code:?}").contains(&code.to_string()[7..15]));
    }
}
