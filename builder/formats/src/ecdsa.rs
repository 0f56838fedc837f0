//! The EC P-256 keys that sign apk's indexes, as PEM files.

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use p256::{
    ecdsa::{
        DerSignature, Signature, SigningKey, VerifyingKey,
        signature::hazmat::{PrehashSigner, PrehashVerifier},
    },
    pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, LineEnding},
};
use sha2::{Digest, Sha512};

use crate::{Malformed, hex};

/// By which a signature names its key: the first 16 bytes of the SHA-512 of the uncompressed public point.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 16]);

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
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Reads a PEM file (`BEGIN PUBLIC KEY`), or its base64 alone.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let wrong = || Malformed("this is no EC P-256 public key in PEM".into());
        let key = if text.contains("-----BEGIN") {
            VerifyingKey::from_public_key_pem(text.trim()).map_err(|_| wrong())?
        } else {
            let base64: String = text.split_whitespace().collect();
            let der = BASE64_STANDARD.decode(base64).map_err(|_| wrong())?;
            VerifyingKey::from_public_key_der(&der).map_err(|_| wrong())?
        };
        Ok(Self(key))
    }

    /// The PEM file, as it goes to `/etc/apk/keys`.
    ///
    /// # Errors
    /// None that is known; the encoder's own.
    pub fn to_pem(&self) -> Result<String, Malformed> {
        self.0
            .to_public_key_pem(LineEnding::LF)
            .map_err(|error| Malformed(error.to_string()))
    }

    /// The id that signatures by this key carry.
    pub fn id(&self) -> KeyId {
        let digest = Sha512::digest(self.0.to_encoded_point(false).as_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        KeyId(id)
    }

    /// Whether `signature` (DER) over the message with this SHA-512 is by this key.
    pub(crate) fn verifies(&self, sha512: &[u8; 64], signature: &[u8]) -> bool {
        Signature::from_der(signature)
            .is_ok_and(|signature| self.0.verify_prehash(sha512, &signature).is_ok())
    }
}

/// A key that signs, deterministically (RFC 6979).
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// Reads a PEM file, of PKCS#8 (`BEGIN PRIVATE KEY`) or as `openssl ecparam -genkey` writes it (`BEGIN EC PRIVATE KEY`).
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let text = text.trim();
        let key = SigningKey::from_pkcs8_pem(text).ok().or_else(|| {
            // openssl puts the parameters in front; the key proper starts at its own marker.
            let start = text.find("-----BEGIN EC PRIVATE KEY-----")?;
            Some(p256::SecretKey::from_sec1_pem(&text[start..]).ok()?.into())
        });
        key.map(Self)
            .ok_or_else(|| Malformed("this is no EC P-256 private key in PEM".into()))
    }

    /// The key that belongs to 32 secret random bytes.
    ///
    /// # Errors
    /// One seed in 2^32 is none: zero, or beyond the order of the curve.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, Malformed> {
        let key = SigningKey::from_bytes(seed.into());
        key.map(Self)
            .map_err(|_| Malformed("these 32 bytes are no EC P-256 key".into()))
    }

    /// The PEM file (PKCS#8).
    ///
    /// # Errors
    /// None that is known; the encoder's own.
    pub fn to_pem(&self) -> Result<String, Malformed> {
        let pem = self
            .0
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|error| Malformed(error.to_string()))?;
        Ok(pem.as_str().to_owned())
    }

    /// The half that may be shown.
    pub fn public(&self) -> PublicKey {
        PublicKey(*self.0.verifying_key())
    }

    /// The signature (DER) over the message with this SHA-512.
    pub(crate) fn sign(&self, sha512: &[u8; 64]) -> Result<Vec<u8>, Malformed> {
        let signature: DerSignature = self
            .0
            .sign_prehash(sha512)
            .map_err(|error| Malformed(format!("cannot sign: {error}")))?;
        Ok(signature.as_bytes().to_vec())
    }
}

impl fmt::Debug for SecretKey {
    /// The secret half stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.public().id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_their_files() {
        let secret = SecretKey::from_seed(&[7; 32]).unwrap();
        let read = SecretKey::parse(&secret.to_pem().unwrap()).unwrap();
        assert_eq!(read.public(), secret.public());
        let public = secret.public().to_pem().unwrap();
        assert_eq!(PublicKey::parse(&public).unwrap(), secret.public());
        let base64: String = public.lines().filter(|line| !line.starts_with('-')).collect();
        assert_eq!(PublicKey::parse(&base64).unwrap(), secret.public());
        assert!(SecretKey::from_seed(&[0; 32]).is_err());
        assert!(PublicKey::parse(&secret.to_pem().unwrap()).is_err());
        assert!(SecretKey::parse(&public).is_err());
    }

    #[test]
    fn signatures_are_deterministic_and_fit() {
        let secret = SecretKey::from_seed(&[7; 32]).unwrap();
        let digest: [u8; 64] = Sha512::digest(b"index").into();
        let signature = secret.sign(&digest).unwrap();
        assert_eq!(secret.sign(&digest).unwrap(), signature);
        assert!(secret.public().verifies(&digest, &signature));
        let other: [u8; 64] = Sha512::digest(b"Index").into();
        assert!(!secret.public().verifies(&other, &signature));
        assert!(
            !SecretKey::from_seed(&[8; 32])
                .unwrap()
                .public()
                .verifies(&digest, &signature)
        );
    }
}
