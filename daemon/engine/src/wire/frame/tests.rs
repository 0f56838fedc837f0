//! Frames come back as they were written, and no bytes make reading panic or leave the plaintext.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::wire::varint;

fn read_all(plaintext: &[u8]) -> Result<Vec<Frame>, FrameError> {
    let mut at = 0;
    let mut frames = Vec::new();
    while let Some(frame) = read(plaintext, &mut at)? {
        frames.push(frame);
    }
    assert_eq!(at, plaintext.len());
    Ok(frames)
}

fn ack_frames() -> impl Strategy<Value = AckFrame> {
    (
        any::<u8>(),
        prop_oneof![0..100u64, any::<u32>().prop_map(|low| (3 << 32) + u64::from(low))],
        any::<u32>(),
        0..u64::from(u32::MAX),
        any::<u32>(),
        prop::collection::vec((0..3000u64, 0..3000u64), 0..MAX_ACK_RANGES),
        0..200u64,
    )
        .prop_map(|(path, largest, received_at, delay, ecn_ce, further, first)| {
            let mut ranges = AckRanges::new();
            let mut start = largest.saturating_sub(first);
            ranges.push(start, largest);
            for (gap, length) in further {
                let Some(end) = start.checked_sub(gap + 2) else {
                    break;
                };
                start = end.saturating_sub(length);
                ranges.push(start, end);
            }
            AckFrame {
                path: PathId(path),
                largest,
                received_at,
                delay: Duration::from_micros(delay),
                ecn_ce,
                ranges,
            }
        })
}

fn wan_statuses() -> impl Strategy<Value = WanStatus> {
    (
        any::<u8>(),
        prop::sample::select(vec![
            Priority::Primary,
            Priority::Secondary,
            Priority::Backup,
            Priority::Off,
        ]),
        prop::option::of(0..varint::MAX),
        any::<(bool, bool)>(),
        prop::sample::select(vec![Mode::Speed, Mode::Redundant]),
        any::<u32>(),
    )
        .prop_map(
            |(path, priority, limit, (metered, gone), mode, sequence)| WanStatus {
                path: PathId(path),
                priority,
                limit_down: limit.map(BytesPerSecond),
                metered,
                gone,
                mode,
                sequence,
            },
        )
}

#[derive(Clone, Debug)]
enum Written {
    Ping,
    Ack(Box<AckFrame>),
    Challenge([u8; 8]),
    Response([u8; 8]),
    WanStatus(WanStatus),
    Hold(HoldHint),
    Skip(u32, u64, u32),
    Control(Vec<u8>),
    Close(CloseReason),
    Data(u32, bool, u64, DataKind, Vec<u8>),
    Parity(u8, u32, u8, u16, Vec<u8>),
    Later(u8, Vec<u8>),
}

fn data() -> impl Strategy<Value = Written> {
    let kinds = prop_oneof![
        Just(DataKind::Packet),
        Just(DataKind::Segment),
        (1500..9000u16, 0..1000u16).prop_map(|(total, at)| DataKind::Fragment { total, at }),
    ];
    let bodies = prop::collection::vec(any::<u8>(), 1..200);
    (any::<u32>(), any::<bool>(), any::<u64>(), kinds, bodies)
        .prop_map(|(flow, ordered, offset, kind, body)| Written::Data(flow, ordered, offset, kind, body))
}

fn written() -> impl Strategy<Value = Written> {
    prop_oneof![
        Just(Written::Ping),
        ack_frames().prop_map(|ack| Written::Ack(Box::new(ack))),
        any::<[u8; 8]>().prop_map(Written::Challenge),
        any::<[u8; 8]>().prop_map(Written::Response),
        wan_statuses().prop_map(Written::WanStatus),
        any::<(u32, u32)>().prop_map(|(skew_us, repair_us)| Written::Hold(HoldHint { skew_us, repair_us })),
        any::<(u32, u64, u32)>().prop_map(|(flow, offset, length)| Written::Skip(flow, offset, length)),
        prop::collection::vec(any::<u8>(), 0..100).prop_map(Written::Control),
        any::<bool>().prop_map(|restarts| Written::Close(if restarts {
            CloseReason::Restarts
        } else {
            CloseReason::Ends
        })),
        data(),
        (
            any::<(u8, u32, u16)>(),
            1u8..,
            prop::collection::vec(any::<u8>(), 1..1437)
        )
            .prop_map(|((path, first, key), count, symbol)| Written::Parity(path, first, count, key, symbol)),
        (
            kind::EXTENSION..=0xffu8,
            prop::collection::vec(any::<u8>(), 0..100)
        )
            .prop_map(|(kind, rest)| Written::Later(kind, rest)),
    ]
}

fn write(out: &mut Vec<u8>, frame: &Written, last: bool) {
    match frame {
        Written::Ping => write_ping(out),
        Written::Ack(ack) => assert!(write_ack(out, ack, usize::MAX)),
        Written::Challenge(token) => write_challenge(out, *token),
        Written::Response(token) => write_response(out, *token),
        Written::WanStatus(status) => write_wan_status(out, status),
        Written::Hold(hint) => write_hold(out, *hint),
        Written::Skip(flow, offset, length) => write_skip(out, FlowId(*flow), *offset, *length),
        Written::Control(message) => write_control(out, message),
        Written::Close(reason) => write_close(out, *reason),
        Written::Data(flow, ordered, offset, kind, body) => {
            let before = out.len();
            write_data(out, FlowId(*flow), *ordered, *offset, *kind, !last, body);
            let overhead = out.len() - before - body.len();
            let saved = usize::from(!last && body.len() < 64);
            assert_eq!(overhead, data_overhead(FlowId(*flow), *kind, !last) - saved);
        }
        Written::Parity(path, first, count, key, symbol) => {
            let before = out.len();
            write_parity(out, PathId(*path), *first, *count, *key, symbol);
            let overhead = out.len() - before - symbol.len();
            assert_eq!(overhead, PARITY_OVERHEAD - usize::from(symbol.len() < 56));
        }
        Written::Later(kind, rest) => {
            out.push(*kind);
            varint::write(out, rest.len() as u64);
            out.extend_from_slice(rest);
        }
    }
}

fn check(plaintext: &[u8], written: &Written, read: Frame) {
    match (written, read) {
        (Written::Ping, Frame::Ping) | (Written::Later(..), Frame::Unknown) => {}
        (Written::Ack(ack), Frame::Ack(mut read)) => {
            assert!(read.expand(ack.largest + 1));
            assert_eq!(&read, &**ack);
        }
        (Written::Challenge(token), Frame::Challenge(read)) => assert_eq!(*token, read),
        (Written::Response(token), Frame::Response(read)) => assert_eq!(*token, read),
        (Written::WanStatus(status), Frame::WanStatus(read)) => assert_eq!(*status, read),
        (Written::Hold(hint), Frame::Hold(read)) => assert_eq!(*hint, read),
        (
            Written::Skip(flow, offset, length),
            Frame::Skip {
                flow: f,
                offset: o,
                length: l,
            },
        ) => {
            assert_eq!((FlowId(*flow), *offset as u32, *length), (f, o, l));
        }
        (Written::Control(message), Frame::Control(range)) => assert_eq!(message, &plaintext[range]),
        (Written::Close(reason), Frame::Close { reason: read }) => assert_eq!(*reason, read),
        (Written::Parity(path, first, count, key, symbol), Frame::Parity(read)) => {
            assert_eq!(
                (PathId(*path), *first, *count, *key),
                (read.path, read.first, read.count, read.key)
            );
            assert_eq!(symbol, &plaintext[read.symbol]);
        }
        (Written::Data(flow, ordered, offset, kind, body), Frame::Data(read)) => {
            assert_eq!(
                (FlowId(*flow), *ordered, *offset as u32, *kind),
                (read.flow, read.ordered, read.offset, read.kind)
            );
            assert_eq!(body, &plaintext[read.body]);
        }
        (written, read) => panic!("{written:?} was read as {read:?}"),
    }
}

proptest! {
    #[test]
    fn frames_come_back(frames in prop::collection::vec(written(), 1..12), padding in 0..20usize) {
        let mut plaintext = Vec::new();
        for (at, frame) in frames.iter().enumerate() {
            write(&mut plaintext, frame, padding == 0 && at + 1 == frames.len());
        }
        write_padding(&mut plaintext, padding);
        let mut read = read_all(&plaintext).expect("as written");
        if padding > 0 {
            prop_assert_eq!(read.pop(), Some(Frame::Padding));
        }
        prop_assert_eq!(read.len(), frames.len());
        for (written, read) in frames.iter().zip(read) {
            check(&plaintext, written, read);
        }
    }

    #[test]
    fn an_ack_gives_up_its_oldest_ranges_for_room(ack in ack_frames(), room in 0..80usize) {
        let mut out = vec![7; 3];
        let fits = write_ack(&mut out, &ack, room);
        prop_assert!(out.len() - 3 <= room);
        if fits {
            let mut frames = read_all(&out[3..]).expect("as written");
            let Some(Frame::Ack(mut read)) = frames.pop() else { panic!("an ACK") };
            prop_assert!(read.expand(ack.largest + 1));
            prop_assert!(ack.ranges.as_slice().starts_with(read.ranges.as_slice()));
            prop_assert_eq!(read.largest, ack.largest);
        } else {
            prop_assert_eq!(out, vec![7; 3]);
            prop_assert!(room < 30, "the first range needs less");
        }
    }

    #[test]
    fn any_bytes_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..300), next in any::<u64>()) {
        let mut at = 0;
        loop {
            let before = at;
            match read(&bytes, &mut at) {
                Ok(None) | Err(_) => break,
                Ok(Some(frame)) => {
                    assert!(at > before && at <= bytes.len());
                    match frame {
                        Frame::Data(data) => {
                            assert!(!bytes[data.body].is_empty());
                        }
                        Frame::Control(range) => {
                            let _ = &bytes[range];
                        }
                        Frame::Ack(mut ack) => {
                            let sound = ack.expand(next);
                            if sound {
                                assert!(ack.largest < next);
                                let mut above = u64::MAX;
                                for (start, end) in ack.ranges.iter() {
                                    assert!(start <= end && end < above);
                                    above = start;
                                }
                            }
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    /// Bytes that begin well get deeper than random ones do.
    #[test]
    fn damaged_frames_can_be_read(
        frames in prop::collection::vec(written(), 1..5),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut plaintext = Vec::new();
        for frame in &frames {
            write(&mut plaintext, frame, false);
        }
        for (index, value) in damage {
            let at = index.index(plaintext.len());
            plaintext[at] = value;
        }
        plaintext.truncate(cut.index(plaintext.len()) + 1);
        let _ = read_all(&plaintext);
    }
}

#[test]
fn an_ack_of_what_was_never_sent_is_refused() {
    let mut ranges = AckRanges::new();
    ranges.push(90, 100);
    ranges.push(10, 50);
    let ack = AckFrame {
        path: PathId(0),
        largest: 100,
        received_at: 0,
        delay: Duration::ZERO,
        ecn_ce: 0,
        ranges,
    };
    let mut out = Vec::new();
    assert!(write_ack(&mut out, &ack, 100));
    let read = || match read(&out, &mut 0) {
        Ok(Some(Frame::Ack(ack))) => ack,
        other => panic!("{other:?}"),
    };
    assert!(read().expand(101));
    assert!(!read().expand(100), "100 was not sent yet");
    assert!(read().expand((7 << 32) + 101), "far later, the same low bits");
    let mut later = read();
    assert!(later.expand((7 << 32) + 5));
    assert_eq!(later.largest, (6 << 32) + 100);
    assert!(later.ranges.contains((6 << 32) + 10));
}

#[test]
fn ranges_below_zero_are_refused() {
    // largest 5, first range 10 long.
    let bytes = [0x02, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 10];
    let Ok(Some(Frame::Ack(ack))) = read(&bytes, &mut 0) else {
        panic!("it can be read")
    };
    assert!(!ack.clone().expand(6));
    assert!(ack.clone().expand((1 << 32) + 6), "there it is not below zero");
}

#[test]
fn a_full_size_piece_costs_seven_bytes() {
    assert_eq!(data_overhead(FlowId(63), DataKind::Segment, false), 6);
    assert_eq!(data_overhead(FlowId(1000), DataKind::Segment, false), 7);
    assert_eq!(
        data_overhead(FlowId(1000), DataKind::Fragment { total: 0, at: 0 }, true),
        13
    );
}

#[test]
fn what_no_sender_writes_is_an_error() {
    for (bytes, error) in [
        (&[0x3f][..], FrameError::UnknownType),
        (&[0x4c, 0, 0, 0, 0, 0, 1], FrameError::UnknownType),
        (&[0x40, 1, 0, 0, 0, 0], FrameError::Invalid),
        (&[0x42, 1, 0, 0, 0, 0, 2, 9], FrameError::Truncated),
        (&[0x44, 1, 0, 0, 0, 0, 0, 3, 0, 2, 9, 9], FrameError::Invalid),
        (&[0x81, 5, 1, 2], FrameError::Truncated),
        (&[0x80, 5, 1, 2], FrameError::Truncated),
        (&[0x80, 8, 1, 0, 0, 0, 1, 4, 0, 9], FrameError::Invalid),
        (&[0x80, 2, 1, 0, 0, 0, 1, 4, 0, 9], FrameError::Invalid),
        (&[0x03, 1, 2], FrameError::Truncated),
        (
            &[0x02, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 32, 10],
            FrameError::Invalid,
        ),
    ] {
        assert_eq!(read_all(bytes), Err(error), "{bytes:?}");
    }
}
