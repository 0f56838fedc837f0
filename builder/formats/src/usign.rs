//! usign: OpenWrt's Ed25519 keys and signatures, two lines of text each.
//!
//! Line 1 is `untrusted comment: …` and means nothing; line 2 is base64 of `Ed`, an 8-byte key id, and the key
//! (32 bytes) or the signature (64 bytes) over the whole file.

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha512};

use crate::{Malformed, hex, unhex};

/// The only algorithm there is.
const ALGORITHM: &[u8; 2] = b"Ed";
/// Key derivation of a secret key; zero rounds of it mean that the key is not encrypted.
const KEY_DERIVATION: &[u8; 2] = b"BK";

/// Eight bytes by which a signature names its key; also the key's file name in `/etc/opkg/keys`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 8]);

impl KeyId {
    /// Reads 16 hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let bytes = unhex(text).and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(Self)
            .ok_or_else(|| Malformed(format!("{text:?} is no usign key id of 16 hexadecimal digits")))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// A key that checks signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    id: KeyId,
    key: VerifyingKey,
}

impl PublicKey {
    /// Reads a key file, or its second line alone.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let (id, key) = decode::<32>(text, "public key")?;
        let key = VerifyingKey::from_bytes(&key)
            .map_err(|_| Malformed("this usign public key is no point of the curve".into()))?;
        Ok(Self { id, key })
    }

    /// The key file.
    pub fn to_text(&self) -> String {
        encode(&format!("public key {}", self.id), self.id, self.key.as_bytes())
    }

    /// The id that signatures by this key carry.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Checks that `signature` (a `.sig` file) was made by this key over exactly `data`.
    ///
    /// # Errors
    /// The signature is by another key (both ids are named), or does not fit.
    pub fn verify(&self, data: &[u8], signature: &str) -> Result<(), Malformed> {
        let (id, signature) = decode::<64>(signature, "signature")?;
        if id != self.id {
            return Err(Malformed(format!(
                "signed by the usign key {id}, not by the trusted key {}",
                self.id
            )));
        }
        self.key
            .verify_strict(data, &Signature::from_bytes(&signature))
            .map_err(|_| {
                Malformed(format!(
                    "the signature by the usign key {id} does not fit the file"
                ))
            })
    }
}

/// The id of the key that made a signature, not checked in any way: to choose among keys and for messages.
pub fn claimed_signer(signature: &str) -> Result<KeyId, Malformed> {
    decode::<64>(signature, "signature").map(|(id, _)| id)
}

/// A key that signs.
#[derive(Clone)]
pub struct SecretKey {
    id: KeyId,
    key: SigningKey,
}

impl SecretKey {
    /// The key that belongs to 32 secret random bytes; its id is derived from the public half.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let key = SigningKey::from_bytes(seed);
        let digest = Sha512::digest(key.verifying_key().as_bytes());
        let mut id = [0; 8];
        id.copy_from_slice(&digest[..8]);
        Self { id: KeyId(id), key }
    }

    /// Reads an unencrypted key file as `usign -G` writes it.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let bytes = payload(text, "secret key")?;
        let bytes: [u8; 104] = bytes
            .try_into()
            .map_err(|_| Malformed("a usign secret key has 104 bytes, this one has not".into()))?;
        let (head, secret) = bytes.split_at(40);
        if !head.starts_with(b"EdBK") {
            return Err(Malformed("this is no usign secret key".into()));
        }
        if head[4..8] != [0; 4] {
            return Err(Malformed("this usign secret key is encrypted".into()));
        }
        if head[24..32] != Sha512::digest(secret)[..8] {
            return Err(Malformed("the checksum of this usign secret key is wrong".into()));
        }
        let mut id = [0; 8];
        id.copy_from_slice(&head[32..40]);
        let mut pair = [0; 64];
        pair.copy_from_slice(secret);
        let key = SigningKey::from_keypair_bytes(&pair)
            .map_err(|_| Malformed("the halves of this usign secret key do not belong together".into()))?;
        Ok(Self { id: KeyId(id), key })
    }

    /// The key file, unencrypted, as `usign -G` writes it (with a zero salt: nothing is derived from it).
    pub fn to_text(&self) -> String {
        let pair = self.key.to_keypair_bytes();
        let mut bytes = Vec::with_capacity(104);
        bytes.extend_from_slice(ALGORITHM);
        bytes.extend_from_slice(KEY_DERIVATION);
        bytes.extend_from_slice(&[0; 4 + 16]);
        bytes.extend_from_slice(&Sha512::digest(pair)[..8]);
        bytes.extend_from_slice(&self.id.0);
        bytes.extend_from_slice(&pair);
        text(&format!("private key {}", self.id), &bytes)
    }

    /// The half that may be shown.
    pub fn public(&self) -> PublicKey {
        PublicKey {
            id: self.id,
            key: self.key.verifying_key(),
        }
    }

    /// The `.sig` file for `data`; the same each time.
    pub fn sign(&self, data: &[u8]) -> String {
        encode(
            &format!("signed by key {}", self.id),
            self.id,
            &self.key.sign(data).to_bytes(),
        )
    }
}

impl fmt::Debug for SecretKey {
    /// The secret half stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.id)
    }
}

fn encode(comment: &str, id: KeyId, content: &[u8]) -> String {
    text(comment, &[ALGORITHM, &id.0[..], content].concat())
}

fn text(comment: &str, bytes: &[u8]) -> String {
    format!(
        "untrusted comment: {comment}\n{}\n",
        BASE64_STANDARD.encode(bytes)
    )
}

/// The bytes of the last line that says something; a comment line before it may be missing.
fn payload(text: &str, what: &str) -> Result<Vec<u8>, Malformed> {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = match lines.next() {
        Some(line) if line.starts_with("untrusted comment:") => lines.next(),
        first => first,
    };
    match line {
        Some(line) if lines.next().is_none() => BASE64_STANDARD
            .decode(line)
            .map_err(|_| Malformed(format!("the second line of this usign {what} is no base64"))),
        _ => Err(Malformed(format!(
            "a usign {what} is a comment line and a base64 line"
        ))),
    }
}

fn decode<const LENGTH: usize>(text: &str, what: &str) -> Result<(KeyId, [u8; LENGTH]), Malformed> {
    let bytes = payload(text, what)?;
    let wrong = || Malformed(format!("this is no usign {what}"));
    let rest = bytes.strip_prefix(ALGORITHM).ok_or_else(wrong)?;
    let (id, content) = rest.split_first_chunk::<8>().ok_or_else(wrong)?;
    Ok((KeyId(*id), content.try_into().map_err(|_| wrong())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// OpenWrt's public release key of 24.10, as its documentation gives it.
    const OPENWRT_24_10: &str = "RWTTEMbygz6X95lKDAulctZy3aj15823THXfyrfXgwGbxZlXBd2brNcw";

    #[test]
    fn openwrts_release_key_has_the_published_id() {
        let key = PublicKey::parse(OPENWRT_24_10).unwrap();
        assert_eq!(key.id().to_string(), "d310c6f2833e97f7");
        assert_eq!(key.id(), KeyId::parse("D310C6F2833E97F7").unwrap());
        assert_eq!(PublicKey::parse(&key.to_text()).unwrap(), key);
    }

    #[test]
    fn a_signature_fits_its_data_and_nothing_else() {
        let secret = SecretKey::from_seed(&[7; 32]);
        let signature = secret.sign(b"the index");
        secret.public().verify(b"the index", &signature).unwrap();
        assert_eq!(secret.sign(b"the index"), signature);
        assert_eq!(claimed_signer(&signature).unwrap(), secret.public().id());
        let error = secret.public().verify(b"the Index", &signature).unwrap_err();
        assert!(error.0.contains("does not fit"), "{error}");
        let other = SecretKey::from_seed(&[8; 32]).public();
        let error = other.verify(b"the index", &signature).unwrap_err();
        assert!(error.0.contains(&secret.public().id().to_string()), "{error}");
    }

    /// RFC 8032, section 7.1, test 2: the key, and the signature over the one byte 0x72.
    #[test]
    fn signatures_are_those_of_rfc_8032() {
        let seed = unhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb").unwrap();
        let secret = SecretKey::from_seed(&seed.try_into().unwrap());
        let (_, signature) = decode::<64>(&secret.sign(&[0x72]), "signature").unwrap();
        let expected = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                        085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";
        assert_eq!(hex(&signature), expected);
    }

    #[test]
    fn a_secret_key_survives_its_file() {
        let secret = SecretKey::from_seed(&[9; 32]);
        let read = SecretKey::parse(&secret.to_text()).unwrap();
        assert_eq!(read.public(), secret.public());
        assert_eq!(read.sign(b"x"), secret.sign(b"x"));
        let mut bytes = payload(&secret.to_text(), "secret key").unwrap();
        bytes[50] ^= 1;
        assert!(
            SecretKey::parse(&text("damaged", &bytes))
                .unwrap_err()
                .0
                .contains("checksum")
        );
        bytes[7] = 42;
        assert!(
            SecretKey::parse(&text("encrypted", &bytes))
                .unwrap_err()
                .0
                .contains("encrypted")
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "\n",
            "untrusted comment: x\n",
            "RWQ",
            "untrusted comment: x\n@@@@\n",
            "a\nb\nc\n",
        ] {
            assert!(PublicKey::parse(text).is_err(), "{text:?}");
            assert!(SecretKey::parse(text).is_err(), "{text:?}");
            assert!(claimed_signer(text).is_err(), "{text:?}");
        }
        let secret = SecretKey::from_seed(&[1; 32]);
        let key = secret.public();
        let signature = secret.sign(b"data");
        crate::hostile::mutations(signature.as_bytes(), 3, |bytes| {
            let Ok(bad) = std::str::from_utf8(bytes) else {
                return;
            };
            if key.verify(b"data", bad).is_ok() {
                // Only the comment may differ, which nobody signs.
                assert_eq!(payload(bad, "signature"), payload(&signature, "signature"));
            }
        });
        crate::hostile::mutations(secret.to_text().as_bytes(), 11, |bytes| {
            if let Ok(bad) = std::str::from_utf8(bytes) {
                let _may_fail = SecretKey::parse(bad);
            }
        });
    }
}
