//! Writes values into an ADB payload, in the order and with the sharing of apk-tools, so that the bytes are the same.

use std::collections::HashMap;

use super::Kind;
use crate::Malformed;

/// An absent value.
pub(crate) const NULL: u32 = 0;
/// Largest offset that fits beside a type.
const MOST: usize = 0x0fff_ffff;

/// A payload in the making.
pub(crate) struct Writer {
    bytes: Vec<u8>,
    /// Where each piece of content was written last. Only looked up, never iterated: the order of keys is of no effect.
    written: HashMap<Vec<u8>, usize>,
}

impl Writer {
    pub(crate) fn new() -> Self {
        Self {
            bytes: vec![0; 8],
            written: HashMap::new(),
        }
    }

    pub(crate) fn int(&mut self, number: u64) -> u32 {
        match u32::try_from(number) {
            Ok(small) if small < 1 << 28 => Kind::INT | small,
            Ok(word) => Kind::INT_32 | self.shared(word.to_le_bytes().to_vec(), 4),
            Err(_) => Kind::INT_64 | self.shared(number.to_le_bytes().to_vec(), 4),
        }
    }

    /// Text or bytes; nothing for empty ones.
    pub(crate) fn blob(&mut self, content: &[u8]) -> u32 {
        let length = content.len();
        let (kind, prefix) = match length {
            0 => return NULL,
            1..=0xff => (Kind::BLOB_8, (length as u8).to_le_bytes().to_vec()),
            0x100..=0xffff => (Kind::BLOB_16, (length as u16).to_le_bytes().to_vec()),
            _ => (Kind::BLOB_32, (length as u32).to_le_bytes().to_vec()),
        };
        let align = prefix.len();
        kind | self.shared([&prefix, content].concat(), align)
    }

    /// A blob of up to 255 zero bytes of its own, to be filled in by [`Self::fill`].
    pub(crate) fn reserve(&mut self, length: u8) -> u32 {
        let content = [vec![length], vec![0; length.into()]].concat();
        Kind::BLOB_8 | self.append(&content, 1)
    }

    /// An object or array; nothing if all slots are absent.
    pub(crate) fn object(&mut self, slots: &[u32]) -> u32 {
        let Some(last) = slots.iter().rposition(|slot| *slot != NULL) else {
            return NULL;
        };
        let count = last as u32 + 2;
        let words = std::iter::once(&count).chain(&slots[..=last]);
        let content = words.flat_map(|word| word.to_le_bytes()).collect();
        Kind::OBJECT | self.shared(content, 4)
    }

    /// The payload with this root.
    pub(crate) fn finish(mut self, root: u32) -> Result<Vec<u8>, Malformed> {
        if self.bytes.len() > MOST {
            return Err(Malformed(
                "too many files or too long scripts for one package".into(),
            ));
        }
        self.bytes[4..8].copy_from_slice(&root.to_le_bytes());
        Ok(self.bytes)
    }

    fn shared(&mut self, content: Vec<u8>, align: usize) -> u32 {
        match self.written.get(&content) {
            Some(at) if at.is_multiple_of(align) => (at & MOST) as u32,
            _ => {
                let at = self.append(&content, align);
                self.written.insert(content, at as usize);
                at
            }
        }
    }

    /// The offset; wrong beyond [`MOST`], which [`Self::finish`] refuses.
    fn append(&mut self, content: &[u8], align: usize) -> u32 {
        self.bytes.resize(self.bytes.len().next_multiple_of(align), 0);
        let at = self.bytes.len();
        self.bytes.extend_from_slice(content);
        (at & MOST) as u32
    }
}

/// Fills in what [`Writer::reserve`] left open.
pub(crate) fn fill(payload: &mut [u8], reserved: u32, content: &[u8]) {
    let at = (reserved as usize & MOST) + 1;
    payload[at..at + content.len()].copy_from_slice(content);
}
