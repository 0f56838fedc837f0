//! OpenWrt's package, index and signature formats as byte codecs: bytes in, checked types out, and back.
//!
//! **Invariant:** nothing here touches the file system, the network or a clock.
//! **Invariant:** the same input gives the same bytes; parsers never panic and bound what they allocate.

pub mod ipk;
pub mod openpgp;
pub mod opkg;
pub mod package;
pub mod usign;

/// A parser's refusal: what is wrong with the bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);
