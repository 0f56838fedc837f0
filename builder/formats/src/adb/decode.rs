//! Reads values of an ADB payload. Offsets are the file's word: all are checked, and because many values may point to
//! the same place, how much is followed in all is bounded too.

use std::cell::Cell;

use super::Kind;
use crate::Malformed;

/// A payload being read.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    /// Bytes that may still be followed.
    budget: Cell<usize>,
}

/// A value: a type and a number or offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Value(u32);

impl Value {
    pub(crate) fn is_null(self) -> bool {
        self.0 == 0
    }
}

/// An object or array.
#[derive(Clone, Copy)]
pub(crate) struct Object<'a> {
    slots: &'a [u8],
}

impl Object<'_> {
    /// Slot `number`, counted from 1; absent ones are null.
    pub(crate) fn slot(&self, number: usize) -> Value {
        let at = number * 4;
        let word = self.slots.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        Value(word.map_or(0, u32::from_le_bytes))
    }

    /// All slots in order.
    pub(crate) fn slots(&self) -> impl Iterator<Item = Value> {
        (1..self.slots.len() / 4).map(|number| self.slot(number))
    }
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, Malformed> {
        match bytes {
            [0, _, _, _, _, _, _, _, ..] => {
                // Sharing makes content larger than its file: names, owners, licences. Not a hundred times, though.
                let budget = bytes.len().saturating_mul(64).min(256 << 20) + 4096;
                Ok(Self {
                    bytes,
                    budget: Cell::new(budget),
                })
            }
            [_, _, _, _, _, _, _, _, ..] => Err(Malformed("an ADB block of a newer version".into())),
            _ => Err(Malformed("an ADB block without header".into())),
        }
    }

    pub(crate) fn root(&self) -> Result<Object<'a>, Malformed> {
        let root = Object {
            slots: &self.bytes[..8],
        }
        .slot(1);
        self.object(root)
    }

    /// A number; 0 if absent.
    pub(crate) fn int(&self, value: Value) -> Result<u64, Malformed> {
        match value.0 & Kind::MASK {
            _ if value.is_null() => Ok(0),
            Kind::INT => Ok(u64::from(value.0 & !Kind::MASK)),
            Kind::INT_32 => Ok(u64::from(u32::from_le_bytes(self.chunk(value, 0)?))),
            Kind::INT_64 => Ok(u64::from_le_bytes(self.chunk(value, 0)?)),
            _ => Err(Malformed("a number is expected where something else is".into())),
        }
    }

    /// Bytes; empty if absent.
    pub(crate) fn blob(&self, value: Value) -> Result<&'a [u8], Malformed> {
        let (length, prefix) = match value.0 & Kind::MASK {
            _ if value.is_null() => return Ok(&[]),
            Kind::BLOB_8 => (usize::from(u8::from_le_bytes(self.chunk(value, 0)?)), 1),
            Kind::BLOB_16 => (usize::from(u16::from_le_bytes(self.chunk(value, 0)?)), 2),
            Kind::BLOB_32 => (u32::from_le_bytes(self.chunk(value, 0)?) as usize, 4),
            _ => return Err(Malformed("text is expected where something else is".into())),
        };
        self.range(value, prefix, length)
    }

    /// Text; empty if absent.
    pub(crate) fn text(&self, value: Value) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.blob(value)?).map_err(|_| Malformed("text that is no UTF-8".into()))
    }

    /// An object or array; without slots if absent.
    pub(crate) fn object(&self, value: Value) -> Result<Object<'a>, Malformed> {
        match value.0 & Kind::MASK {
            _ if value.is_null() => Ok(Object { slots: &[] }),
            Kind::OBJECT | Kind::ARRAY => {
                let count = u32::from_le_bytes(self.chunk(value, 0)?) as usize;
                let length = count.checked_mul(4).ok_or_else(outside)?;
                Ok(Object {
                    slots: self.range(value, 0, length)?,
                })
            }
            _ => Err(Malformed("an object is expected where something else is".into())),
        }
    }

    fn chunk<const LENGTH: usize>(&self, value: Value, skip: usize) -> Result<[u8; LENGTH], Malformed> {
        self.range(value, skip, LENGTH)?.try_into().map_err(|_| outside())
    }

    fn range(&self, value: Value, skip: usize, length: usize) -> Result<&'a [u8], Malformed> {
        let start = (value.0 & !Kind::MASK) as usize + skip;
        let range = start
            .checked_add(length)
            .and_then(|end| self.bytes.get(start..end))
            .ok_or_else(outside)?;
        // Something for the step itself, so that pointing at nothing a million times costs as well.
        let left = self.budget.get().checked_sub(length + 4);
        self.budget
            .set(left.ok_or_else(|| Malformed("an ADB block that unfolds without end".into()))?);
        Ok(range)
    }
}

fn outside() -> Malformed {
    Malformed("a value points outside of its ADB block".into())
}
