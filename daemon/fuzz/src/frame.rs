//! Any plaintext: reading ends, stays inside, and what was read can be written and read again.

use sennit_engine::wire::frame::{self, Frame, ParityFrame};

/// Reads frames until the end or an error.
pub fn run(plaintext: &[u8]) {
    let mut at = 0;
    let mut again = Vec::new();
    loop {
        let before = at;
        let Ok(Some(frame)) = frame::read(plaintext, &mut at) else {
            break;
        };
        assert!(at > before && at <= plaintext.len());
        again.clear();
        write(&mut again, plaintext, &frame);
        if !again.is_empty() {
            let mut end = 0;
            let read = frame::read(&again, &mut end)
                .expect("as written")
                .expect("not empty");
            assert_eq!(end, again.len());
            check_equal(plaintext, &frame, &again, &read);
        }
    }
}

fn write(out: &mut Vec<u8>, plaintext: &[u8], frame: &Frame) {
    match frame {
        Frame::Padding | Frame::Unknown => {}
        Frame::Ping => frame::write_ping(out),
        Frame::Ack(ack) => {
            let mut whole = ack.clone();
            if whole.expand(1 << 40) {
                assert!(frame::write_ack(out, &whole, 1500));
            }
        }
        Frame::Challenge(token) => frame::write_challenge(out, *token),
        Frame::Response(token) => frame::write_response(out, *token),
        Frame::WanStatus(status) => frame::write_wan_status(out, status),
        Frame::Hold(hint) => frame::write_hold(out, *hint),
        Frame::Skip { flow, offset, length } => frame::write_skip(out, *flow, u64::from(*offset), *length),
        Frame::Control(range) => frame::write_control(out, &plaintext[range.clone()]),
        Frame::Close { reason } => frame::write_close(out, *reason),
        Frame::Parity(parity) => {
            let symbol = &plaintext[parity.symbol.clone()];
            frame::write_parity(out, parity.path, parity.first, parity.count, parity.key, symbol);
        }
        Frame::Data(data) => {
            let body = &plaintext[data.body.clone()];
            if body.len() < 0x4000 {
                let offset = u64::from(data.offset);
                frame::write_data(out, data.flow, data.ordered, offset, data.kind, true, body);
            }
        }
    }
}

fn check_equal(plaintext: &[u8], frame: &Frame, again: &[u8], read: &Frame) {
    match (frame, read) {
        (Frame::Data(a), Frame::Data(b)) => {
            assert_eq!(
                (a.flow, a.ordered, a.offset, a.kind),
                (b.flow, b.ordered, b.offset, b.kind)
            );
            assert_eq!(plaintext[a.body.clone()], again[b.body.clone()]);
        }
        (Frame::Parity(a), Frame::Parity(b)) => {
            let fields = |one: &ParityFrame| (one.path, one.first, one.count, one.key);
            assert_eq!(fields(a), fields(b));
            assert_eq!(plaintext[a.symbol.clone()], again[b.symbol.clone()]);
        }
        (Frame::Control(a), Frame::Control(b)) => assert_eq!(plaintext[a.clone()], again[b.clone()]),
        (Frame::Ack(a), Frame::Ack(b)) => {
            let (mut a, mut b) = (a.clone(), b.clone());
            assert!(a.expand(1 << 40) && b.expand(1 << 40));
            assert_eq!(a, b);
        }
        (a, b) => assert_eq!(a, b),
    }
}
