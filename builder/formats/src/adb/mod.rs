//! ADB, the container of apk-tools 3: what both a package (`.apk`) and an index (`packages.adb`) are made of.
//!
//! Learnt from apk-tools 3.0.6 and checked against it (see `tests/fixtures/apk`). All numbers are little-endian.
//!
//! **File.** `ADB.`, then a 32-bit schema (`pckg`, `indx`), then blocks. Compressed files replace nothing of this but
//! put `ADBd` (raw deflate), or `ADBc` with one byte of algorithm (0 none, 1 deflate, 2 zstd) and one of level, in
//! front of the compressed whole.
//!
//! **Block.** 32 bits: type in the upper two (0 ADB, 1 signature, 2 data), size in the rest, the four bytes of the
//! word included; the payload; zeros up to a multiple of 8. First comes exactly one ADB block, then signatures, then
//! data. The *identity* of a package is the SHA-256 of its ADB block's payload.
//!
//! **ADB payload.** A byte of compatibility version (0), a byte of version, two of nothing, the root value; then
//! whatever values point to. A value is 32 bits: type in the upper four, the rest an offset into the payload, or a
//! small number itself. See [`Kind`]. Blobs are a length of 1, 2 or 4 bytes and the content; arrays and objects are
//! a count of slots (itself included) and a value per slot, number 0 being absent. What was written once (the same
//! bytes, suitably aligned) is pointed to again instead of written again.
//!
//! **Signature payload.** Version (0), hash (4: SHA-512), 16 bytes of key id (the start of the SHA-512 of the
//! uncompressed public point), and an ECDSA signature in DER over the SHA-512 of: the schema, those 18 bytes, and the
//! SHA-512 of the ADB payload.

mod decode;
mod encode;
pub(crate) mod info;

pub(crate) use decode::{Object, Reader, Value};
pub(crate) use encode::{Writer, fill};

use std::io::Read;

use flate2::{Compression as Level, bufread::DeflateDecoder, write::DeflateEncoder};
use sha2::{Digest, Sha256, Sha512};

use crate::{Malformed, ecdsa};

/// The schema of a package, `pckg`.
pub(crate) const PACKAGE: u32 = u32::from_le_bytes(*b"pckg");
/// The schema of an index, `indx`.
pub(crate) const INDEX: u32 = u32::from_le_bytes(*b"indx");

/// Most bytes that a file may unpack to.
const MOST_UNPACKED: u64 = 1 << 30;
/// Most bytes of an ADB block; OpenWrt's largest index has a third of a MiB.
const MOST_ADB: usize = 32 << 20;
/// Most signatures of one file.
const MOST_SIGNATURES: usize = 64;

const BLOCK_ADB: u32 = 0;
const BLOCK_SIGNATURE: u32 = 1;
const BLOCK_DATA: u32 = 2;
const SIZE_BITS: u32 = 0x3fff_ffff;

const SIGNATURE_VERSION: u8 = 0;
const SIGNATURE_SHA512: u8 = 4;
/// Version, hash, key id.
const SIGNATURE_HEADER: usize = 18;

/// How a file is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// `ADB.`
    None,
    /// `ADBd`, as OpenWrt's own packages.
    Deflate,
}

/// The types of a value.
pub(crate) struct Kind;

impl Kind {
    pub(crate) const INT: u32 = 0x1000_0000;
    pub(crate) const INT_32: u32 = 0x2000_0000;
    pub(crate) const INT_64: u32 = 0x3000_0000;
    pub(crate) const BLOB_8: u32 = 0x8000_0000;
    pub(crate) const BLOB_16: u32 = 0x9000_0000;
    pub(crate) const BLOB_32: u32 = 0xa000_0000;
    pub(crate) const ARRAY: u32 = 0xd000_0000;
    pub(crate) const OBJECT: u32 = 0xe000_0000;
    pub(crate) const MASK: u32 = 0xf000_0000;
}

/// The blocks of an unpacked file.
pub(crate) struct Blocks<'a> {
    schema: u32,
    /// Payload of the ADB block.
    pub(crate) adb: &'a [u8],
    signatures: Vec<&'a [u8]>,
    /// Payloads of the data blocks.
    pub(crate) data: Vec<&'a [u8]>,
}

impl<'a> Blocks<'a> {
    /// Splits an unpacked file of this schema.
    pub(crate) fn parse(file: &'a [u8], schema: u32) -> Result<Self, Malformed> {
        let (magic, rest) = word(file).ok_or_else(|| Malformed("no ADB file: too short".into()))?;
        let (found, mut rest) = word(rest).ok_or_else(|| Malformed("no ADB file: too short".into()))?;
        if magic != u32::from_le_bytes(*b"ADB.") {
            return Err(Malformed("no ADB file: it does not start with ADB.".into()));
        }
        if found != schema {
            let name = |schema: u32| String::from_utf8_lossy(&schema.to_le_bytes()).into_owned();
            let (found, wanted) = (name(found), name(schema));
            return Err(Malformed(format!(
                "an ADB file of the kind {found:?} where {wanted:?} is expected"
            )));
        }
        let mut blocks = Self {
            schema,
            adb: &[],
            signatures: Vec::new(),
            data: Vec::new(),
        };
        let mut least = BLOCK_ADB;
        while !rest.is_empty() {
            let (kind, payload, after) = block(rest)?;
            rest = after;
            match kind {
                BLOCK_ADB if least == BLOCK_ADB && payload.len() <= MOST_ADB => blocks.adb = payload,
                BLOCK_SIGNATURE if least == BLOCK_SIGNATURE && blocks.signatures.len() < MOST_SIGNATURES => {
                    blocks.signatures.push(payload);
                }
                BLOCK_DATA if least != BLOCK_ADB => blocks.data.push(payload),
                _ => {
                    return Err(Malformed(format!(
                        "an ADB block of type {kind} where it cannot be"
                    )));
                }
            }
            least = kind.max(BLOCK_SIGNATURE);
        }
        if least == BLOCK_ADB {
            return Err(Malformed("an ADB file without content".into()));
        }
        Ok(blocks)
    }

    /// SHA-256 of the ADB block, by which an index names a package.
    pub(crate) fn identity(&self) -> [u8; 32] {
        Sha256::digest(self.adb).into()
    }

    /// The first of `trusted` that made one of the signatures.
    pub(crate) fn verify(&self, trusted: &[ecdsa::PublicKey]) -> Result<ecdsa::KeyId, Malformed> {
        let mut refusals: Vec<String> = Vec::new();
        for payload in &self.signatures {
            let (header, signature) = match payload.split_at_checked(SIGNATURE_HEADER) {
                Some((header, signature)) if header[..2] == [SIGNATURE_VERSION, SIGNATURE_SHA512] => {
                    (header, signature)
                }
                _ => {
                    refusals.push("a signature of an unknown version".into());
                    continue;
                }
            };
            let mut id = [0; 16];
            id.copy_from_slice(&header[2..]);
            let id = ecdsa::KeyId(id);
            match trusted.iter().find(|key| key.id() == id) {
                Some(key) if key.verifies(&self.signed_digest(header), signature) => return Ok(id),
                Some(_) => refusals.push(format!("the signature by the key {id} does not fit")),
                None => refusals.push(format!("signed by the key {id}, which is not trusted")),
            }
        }
        if refusals.is_empty() {
            return Err(Malformed("not signed".into()));
        }
        Err(Malformed(refusals.join("; ")))
    }

    /// What the signature algorithm itself is applied to.
    fn signed_digest(&self, header: &[u8]) -> [u8; 64] {
        let mut digest = Sha512::new();
        digest.update(self.schema.to_le_bytes());
        digest.update(header);
        digest.update(Sha512::digest(self.adb));
        digest.finalize().into()
    }
}

/// A file in the making, not yet compressed.
pub(crate) struct FileBuilder {
    bytes: Vec<u8>,
}

impl FileBuilder {
    /// Header and ADB block.
    pub(crate) fn new(schema: u32, adb: &[u8]) -> Result<Self, Malformed> {
        let mut file = Self {
            bytes: [b"ADB.".as_slice(), &schema.to_le_bytes()].concat(),
        };
        file.block(BLOCK_ADB, &[adb])?;
        Ok(file)
    }

    /// An unpacked file as it is, to add signatures to.
    pub(crate) fn reopen(file: &[u8]) -> Self {
        Self { bytes: file.to_vec() }
    }

    /// Adds a data block; `parts` follow each other in it.
    pub(crate) fn data(&mut self, parts: &[&[u8]]) -> Result<(), Malformed> {
        self.block(BLOCK_DATA, parts)
    }

    /// Adds a signature of the ADB block; must come before data blocks.
    pub(crate) fn sign(&mut self, schema: u32, key: &ecdsa::SecretKey) -> Result<(), Malformed> {
        let id = key.public().id();
        let header = [&[SIGNATURE_VERSION, SIGNATURE_SHA512], &id.0[..]].concat();
        let digest = Blocks::parse(&self.bytes, schema)?.signed_digest(&header);
        let signature = key.sign(&digest)?;
        self.block(BLOCK_SIGNATURE, &[&header, &signature])
    }

    fn block(&mut self, kind: u32, parts: &[&[u8]]) -> Result<(), Malformed> {
        let length = 4 + parts.iter().map(|part| part.len()).sum::<usize>();
        let size = u32::try_from(length)
            .ok()
            .filter(|size| *size <= SIZE_BITS)
            .ok_or_else(|| Malformed("a file of a GiB or more does not fit into a package".into()))?;
        self.bytes.extend_from_slice(&(kind << 30 | size).to_le_bytes());
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.bytes
            .resize(self.bytes.len() + length.next_multiple_of(8) - length, 0);
        Ok(())
    }

    /// The file, compressed as asked for.
    pub(crate) fn finish(self, compression: Compression) -> Result<Vec<u8>, Malformed> {
        match compression {
            Compression::None => Ok(self.bytes),
            Compression::Deflate => {
                let failed = |error: std::io::Error| Malformed(format!("cannot be compressed: {error}"));
                let mut encoder = DeflateEncoder::new(b"ADBd".to_vec(), Level::best());
                std::io::Write::write_all(&mut encoder, &self.bytes).map_err(failed)?;
                encoder.finish().map_err(failed)
            }
        }
    }
}

/// Undoes the compression, up to a bound.
pub(crate) fn unpack(file: &[u8]) -> Result<Vec<u8>, Malformed> {
    let compressed = match file.split_at_checked(4) {
        Some((b"ADB.", _)) => return Ok(file.to_vec()),
        Some((b"ADBd", rest)) => rest,
        Some((b"ADBc", [1, _level, rest @ ..])) => rest,
        Some((b"ADBc", [0, _level, rest @ ..])) => return Ok(rest.to_vec()),
        Some((b"ADBc", [2, ..])) => {
            return Err(Malformed(
                "compressed with zstd, which OpenWrt does not use".into(),
            ));
        }
        _ => {
            return Err(Malformed(
                "no ADB file (apk v3): it does not start with ADB".into(),
            ));
        }
    };
    let mut decoder = DeflateDecoder::new(compressed);
    let mut unpacked = Vec::new();
    decoder
        .by_ref()
        .take(MOST_UNPACKED + 1)
        .read_to_end(&mut unpacked)
        .map_err(|error| Malformed(format!("damaged compression: {error}")))?;
    if unpacked.len() as u64 > MOST_UNPACKED {
        return Err(Malformed(format!(
            "unpacks to more than {} MiB",
            MOST_UNPACKED >> 20
        )));
    }
    if !decoder.into_inner().is_empty() {
        return Err(Malformed("bytes after the end".into()));
    }
    Ok(unpacked)
}

fn word(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (word, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*word), rest))
}

/// Type, payload and what follows.
fn block(bytes: &[u8]) -> Result<(u32, &[u8], &[u8]), Malformed> {
    let cut = || Malformed("an ADB block is cut short".into());
    let (head, payload) = word(bytes).ok_or_else(cut)?;
    let (kind, size) = (head >> 30, (head & SIZE_BITS) as usize);
    let length = size.checked_sub(4).ok_or_else(cut)?;
    let padded = size.next_multiple_of(8) - 4;
    let (padded, rest) = payload.split_at_checked(padded).ok_or_else(cut)?;
    let (payload, padding) = padded.split_at(length);
    if padding.iter().any(|byte| *byte != 0) {
        return Err(Malformed("the padding of an ADB block is not zero".into()));
    }
    Ok((kind, payload, rest))
}
