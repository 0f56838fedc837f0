//! Any bytes as an inner packet with any offload header: parsing stays inside.

use sennit_engine::inner::{self, VirtioHeader, packet};

/// The offload header, then the packet.
pub fn run(input: &[u8]) {
    let Some((offload, bytes)) = input.split_first_chunk() else {
        return;
    };
    if let Some(header) = VirtioHeader::parse(offload) {
        assert_eq!(VirtioHeader::parse(&header.to_bytes()), Some(header));
    }
    let Ok(parsed) = inner::parse(bytes) else {
        return;
    };
    assert!(parsed.headers_len() <= bytes.len());
    let _ = packet::checksums_are_right(bytes, &parsed);
    let _ = packet::addresses(bytes);
}
