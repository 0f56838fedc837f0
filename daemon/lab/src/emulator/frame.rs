//! What the emulator must know of frames: how they are stored, for whom they are, and whether they are a tunnel's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::MAX_FRAME;
use crate::topology::{SERVER, SERVER_V6, TUNNEL_PORTS};

/// A frame on its way. The length stands in the last two bytes, so that a frame is one pointer.
pub(super) type Frame = Box<[u8]>;

/// Puts a frame into a buffer of the pool, or into a new one.
pub(super) fn store(bytes: &[u8], pool: &mut Vec<Frame>) -> Frame {
    let mut frame = pool
        .pop()
        .unwrap_or_else(|| vec![0; MAX_FRAME + 2].into_boxed_slice());
    let length = bytes.len().min(MAX_FRAME);
    frame[..length].copy_from_slice(&bytes[..length]);
    frame[MAX_FRAME..].copy_from_slice(&(length as u16).to_le_bytes());
    frame
}

/// Its bytes.
pub(super) fn contents(frame: &Frame) -> &[u8] {
    let length = u16::from_le_bytes([frame[MAX_FRAME], frame[MAX_FRAME + 1]]);
    &frame[..usize::from(length)]
}

/// Whether a switch would send a frame to this host: it is meant for it, for many, or for nobody it knows.
pub(super) fn is_for(frame: &[u8], host: [u8; 6], all: &[[u8; 6]]) -> bool {
    let Some(target) = frame.get(..6) else {
        return false;
    };
    target[0] & 1 == 1 || target == host || !all.iter().any(|known| target == known)
}

/// Whether a frame carries a packet that a tunnel would have hidden: anything but a tunnel's own datagrams, ICMP
/// between its ends, and what a link itself needs.
pub(super) fn is_inner(frame: &[u8]) -> bool {
    const ICMP: u8 = 1;
    const IGMP: u8 = 2;
    const UDP: u8 = 17;
    const ICMPV6: u8 = 58;
    const HOP_BY_HOP: u8 = 0;
    let Some(kind) = frame.get(12..14) else {
        return false;
    };
    let (protocol, ends, transport): (u8, [Option<IpAddr>; 2], usize) = match kind {
        [0x08, 0x00] => {
            let header = usize::from(frame.get(14).copied().unwrap_or(0) & 15) * 4;
            (
                frame.get(23).copied().unwrap_or(0),
                [v4(frame, 26), v4(frame, 30)],
                14 + header,
            )
        }
        [0x86, 0xdd] => (
            frame.get(20).copied().unwrap_or(0),
            [v6(frame, 22), v6(frame, 38)],
            54,
        ),
        _ => return false,
    };
    let server = ends
        .into_iter()
        .flatten()
        .any(|end| end == SERVER || end == SERVER_V6);
    let port = |at: usize| {
        let bytes = frame.get(transport + at..)?.first_chunk::<2>()?;
        Some(u16::from_be_bytes(*bytes))
    };
    match protocol {
        IGMP | ICMPV6 | HOP_BY_HOP => false,
        ICMP => !server,
        UDP => {
            !server
                || ![port(0), port(2)]
                    .into_iter()
                    .flatten()
                    .any(|port| TUNNEL_PORTS.contains(&port))
        }
        _ => true,
    }
}

fn v4(frame: &[u8], at: usize) -> Option<IpAddr> {
    frame
        .get(at..)?
        .first_chunk::<4>()
        .map(|bytes| Ipv4Addr::from(*bytes).into())
}

fn v6(frame: &[u8], at: usize) -> Option<IpAddr> {
    frame
        .get(at..)?
        .first_chunk::<16>()
        .map(|bytes| Ipv6Addr::from(*bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(protocol: u8, to: [u8; 4], port: u16) -> Vec<u8> {
        let mut frame = vec![0; 14 + 20 + 8];
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        frame[14] = 0x45;
        frame[23] = protocol;
        frame[26..30].copy_from_slice(&[10, 71, 0, 2]);
        frame[30..34].copy_from_slice(&to);
        frame[36..38].copy_from_slice(&port.to_be_bytes());
        frame
    }

    #[test]
    fn a_tunnel_hides_everything_but_itself() {
        let server = SERVER.octets();
        assert!(!is_inner(&packet(17, server, 7300)));
        assert!(!is_inner(&packet(1, server, 0)));
        assert!(is_inner(&packet(17, server, 53)));
        assert!(is_inner(&packet(17, [10, 73, 0, 1], 7300)));
        assert!(is_inner(&packet(6, server, 7300)));
        assert!(is_inner(&packet(1, [10, 73, 0, 1], 0)));
        let mut arp = packet(17, server, 53);
        arp[12..14].copy_from_slice(&[0x08, 0x06]);
        assert!(!is_inner(&arp));
        assert!(!is_inner(&[]));
    }

    #[test]
    fn frames_go_where_a_switch_would_send_them() {
        let (a, b) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let to = |target: [u8; 6]| [target.as_slice(), &[0; 8]].concat();
        assert!(is_for(&to(a), a, &[a, b]));
        assert!(!is_for(&to(b), a, &[a, b]));
        assert!(is_for(&to([0xff; 6]), a, &[a, b]));
        assert!(is_for(&to([2, 0, 0, 0, 0, 9]), a, &[a, b]));
    }
}
