//! Keys as people write them: 32 bytes in base64, X25519. Secrets are wiped from memory and never printed in logs.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::{Error, Result};

const BYTES: usize = 32;

/// Who a machine is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct PublicKey([u8; BYTES]);

impl PublicKey {
    /// The key of these bytes; any 32 are one.
    pub fn from_bytes(bytes: [u8; BYTES]) -> Self {
        Self(bytes)
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8; BYTES] {
        &self.0
    }
}

impl TryFrom<String> for PublicKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        decode(&text).map(|bytes| Self(*bytes))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What proves who a machine is.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PrivateKey(Zeroizing<[u8; BYTES]>);

impl PrivateKey {
    /// A new key from the kernel's random numbers.
    pub fn generate() -> Result<Self> {
        let mut bytes = Zeroizing::new([0; BYTES]);
        random(&mut bytes[..])?;
        Ok(Self(bytes))
    }

    /// The key of these bytes; any 32 are one.
    pub fn from_bytes(bytes: Zeroizing<[u8; BYTES]>) -> Self {
        Self(bytes)
    }

    /// Reads a key file.
    pub fn read(path: &Path) -> Result<Self> {
        let mut text = Zeroizing::new(String::new());
        let outcome = std::fs::File::open(path).and_then(|file| file.take(4096).read_to_string(&mut text));
        outcome.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::user(
                format!("there is no private key {}", path.display()),
                format!("make one: sennit keygen --out {}", path.display()),
            ),
            io::ErrorKind::PermissionDenied => Error::environment(
                format!("failed to read the private key {}: {error}", path.display()),
                "run sennit as root",
            ),
            _ => Error::user(
                format!("failed to read the private key {}: {error}", path.display()),
                "name a key file that sennit keygen made",
            ),
        })?;
        decode(text.trim()).map(Self).map_err(|why| {
            Error::user(
                format!("{}:1: {why}", path.display()),
                format!(
                    "make a new one, and tell the other end its public key: sennit keygen --force --out {}",
                    path.display()
                ),
            )
        })
    }

    /// Writes a key file that only its owner can read. An existing file is kept unless `replace`.
    pub fn write(&self, path: &Path, replace: bool) -> Result<()> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists => Error::user(
                format!("{} exists: a private key is not overwritten", path.display()),
                format!(
                    "sennit pubkey {} prints its public key; --force replaces it",
                    path.display()
                ),
            ),
            _ => Error::environment(
                format!("failed to write the private key {}: {error}", path.display()),
                "run sennit as root, or name a file of your own: sennit keygen --out FILE",
            ),
        };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        // The old key goes when the new one is on disk.
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let written = if replace { Path::new(&beside) } else { path };
        if replace {
            let _ = std::fs::remove_file(written);
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(written)
            .map_err(failed)?;
        let mut text = Zeroizing::new(STANDARD.encode(*self.0));
        text.push('\n');
        file.write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| {
                if replace {
                    std::fs::rename(written, path)
                } else {
                    Ok(())
                }
            })
            .map_err(failed)
    }

    /// The public key that belongs to it.
    pub fn public(&self) -> PublicKey {
        let secret = x25519_dalek::StaticSecret::from(*self.0);
        PublicKey(x25519_dalek::PublicKey::from(&secret).to_bytes())
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8; BYTES] {
        &self.0
    }
}

impl TryFrom<String> for PrivateKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        decode(&Zeroizing::new(text)).map(Self)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(secret)")
    }
}

/// A secret that both ends know besides their keys.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PresharedKey(Zeroizing<[u8; BYTES]>);

impl PresharedKey {
    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8; BYTES] {
        &self.0
    }
}

impl TryFrom<String> for PresharedKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        decode(&Zeroizing::new(text)).map(Self)
    }
}

impl fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresharedKey(secret)")
    }
}

/// Fills `bytes` with the kernel's random numbers; waits for its entropy at boot.
pub fn random(bytes: &mut [u8]) -> Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(got) => filled += got,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                return Err(Error::environment(
                    format!("failed to get random numbers from the kernel: {error}"),
                    "sennit needs Linux 3.17 or later",
                ));
            }
        }
    }
    Ok(())
}

/// The text is not repeated in the message: it may be a secret, or most of one.
fn decode(text: &str) -> Result<Zeroizing<[u8; BYTES]>, String> {
    const RULE: &str = "a key is 44 characters of base64 that stand for 32 bytes";
    let characters = text.chars().count();
    if characters != 44 {
        return Err(format!("this key has {characters} characters: {RULE}"));
    }
    let bytes = STANDARD
        .decode(text)
        .map(Zeroizing::new)
        .map_err(|_| format!("this is not base64: {RULE}"))?;
    <[u8; BYTES]>::try_from(bytes.as_slice())
        .map(Zeroizing::new)
        .map_err(|_| format!("this key stands for {} bytes: {RULE}", bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_key_is_that_of_rfc_7748() {
        let private = [
            0x77, 0x07, 0x6d, 0x0a, 0x73, 0x18, 0xa5, 0x7d, 0x3c, 0x16, 0xc1, 0x72, 0x51, 0xb2, 0x66, 0x45,
            0xdf, 0x4c, 0x2f, 0x87, 0xeb, 0xc0, 0x99, 0x2a, 0xb1, 0x77, 0xfb, 0xa5, 0x1d, 0xb9, 0x2c, 0x2a,
        ];
        let public = PrivateKey(Zeroizing::new(private)).public();
        assert_eq!(public.as_bytes()[..4], [0x85, 0x20, 0xf0, 0x09]);
        assert_eq!(PublicKey::try_from(public.to_string()), Ok(public));
    }

    #[test]
    fn a_wrong_key_is_told_what_is_wrong_without_being_repeated() {
        let refused = |text: &str| PublicKey::try_from(text.to_owned()).unwrap_err();
        assert!(refused("secret").contains("6 characters"));
        assert!(refused(&"!".repeat(44)).contains("not base64"));
        assert!(refused(&"A".repeat(44)).contains("33 bytes"));
        assert!(!refused("secret").contains("secret"));
    }

    #[test]
    fn a_key_file_is_private_and_not_overwritten() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("etc/private.key");
        let key = PrivateKey::generate().unwrap();
        key.write(&path, false).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert!(PrivateKey::read(&path).unwrap() == key);
        let other = PrivateKey::generate().unwrap();
        assert!(
            other
                .write(&path, false)
                .unwrap_err()
                .to_string()
                .contains("exists")
        );
        other.write(&path, true).unwrap();
        assert!(PrivateKey::read(&path).unwrap() == other);
        assert!(!format!("{key:?}").contains(&STANDARD.encode(key.as_bytes())));
    }
}
