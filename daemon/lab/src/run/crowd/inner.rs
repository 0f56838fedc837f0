//! The inner packets of the crowd: UDP over IPv4, as a kernel would have made them.

use std::net::Ipv4Addr;

use bytes::Bytes;

/// IPv4 and UDP header.
pub(super) const HEADERS: usize = 28;

/// A datagram of `payload` zeros; its UDP checksum is left out, as IPv4 allows.
pub(super) fn datagram(from: Ipv4Addr, to: Ipv4Addr, ports: (u16, u16), payload: &[u8]) -> Bytes {
    let length = (HEADERS + payload.len()) as u16;
    let mut packet = Vec::with_capacity(usize::from(length));
    packet.extend_from_slice(&[0x45, 0]);
    packet.extend_from_slice(&length.to_be_bytes());
    // Not to be fragmented; 64 hops; UDP; the checksum follows below.
    packet.extend_from_slice(&[0, 0, 0x40, 0, 64, 17, 0, 0]);
    packet.extend_from_slice(&from.octets());
    packet.extend_from_slice(&to.octets());
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend_from_slice(&ports.0.to_be_bytes());
    packet.extend_from_slice(&ports.1.to_be_bytes());
    packet.extend_from_slice(&(length - 20).to_be_bytes());
    packet.extend_from_slice(&[0, 0]);
    packet.extend_from_slice(payload);
    Bytes::from(packet)
}

/// The internet checksum of a header.
fn checksum(header: &[u8]) -> u16 {
    let words = header
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_with_its_checksum_sums_to_nothing() {
        let packet = datagram(
            Ipv4Addr::new(10, 73, 1, 7),
            Ipv4Addr::new(10, 73, 0, 1),
            (9, 4000),
            &[0; 100],
        );
        assert_eq!(packet.len(), 128);
        assert_eq!(checksum(&packet[..20]), 0);
        assert_eq!(packet[24..26], 108_u16.to_be_bytes());
    }
}
