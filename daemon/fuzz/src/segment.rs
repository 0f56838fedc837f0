//! Any segment headers, one behind the other, as an authenticated but hostile peer sends them: what is rebuilt is TCP.

use sennit_engine::inner::{self, Decompressor, packet::protocol};

/// Each header: a byte with the length of its body, a byte of which one bit says "ordered", four bytes of offset, the body.
pub fn run(input: &[u8]) {
    let mut decompressor = Decompressor::new();
    let mut rest = input;
    while let Some((&[length, ordered, a, b, c, d], behind)) = rest.split_first_chunk() {
        let (body, behind) = behind.split_at(usize::from(length).min(behind.len()));
        rest = behind;
        let offset = u32::from_be_bytes([a, b, c, d]);
        let Ok((mut segment, at)) = decompressor.read(ordered & 1 != 0, offset, body) else {
            continue;
        };
        let options = &body[at..at + segment.options_len()];
        let payload = &body[at + segment.options_len()..];
        assert!(segment.segment_size() > 0);
        check(&segment.rebuild(options, payload.len()).1, payload);
        if payload.len() > 1 {
            segment.cut_front(1);
            segment.cut_back();
            check(&segment.rebuild(options, payload.len() - 1).1, &payload[1..]);
        }
    }
}

fn check(head: &[u8], payload: &[u8]) {
    let packet = [head, payload].concat();
    let parsed = inner::parse(&packet).expect("a rebuilt header is a header");
    assert_eq!(parsed.key.protocol, protocol::TCP);
    assert!(parsed.headers_len() <= head.len());
}
