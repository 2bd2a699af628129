//! Packets of the model as bytes, each with a tag at its end by which it is known again.

use std::net::IpAddr;

use caracal_felix_core::eval::Packet;

const TTL: u8 = 64;

pub(crate) fn bytes(packet: &Packet, tag: u64) -> Vec<u8> {
    let mut payload = transport(packet);
    payload.extend(tag.to_be_bytes());
    if packet.protocol == 17 {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        payload[4..6].copy_from_slice(&length);
    }
    let length = u16::try_from(payload.len()).unwrap();
    let mut bytes = Vec::new();
    match (packet.source, packet.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            bytes.extend([0x45, 0]);
            bytes.extend((length + 20).to_be_bytes());
            bytes.extend([0, 1, 0, 0, TTL, packet.protocol, 0, 0]);
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
            let sum = checksum(&bytes);
            bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            bytes.extend([0x60, 0, 0, 0]);
            bytes.extend(length.to_be_bytes());
            bytes.extend([packet.protocol, TTL]);
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
        }
        _ => panic!("two families"),
    }
    bytes.extend(payload);
    bytes
}

pub(crate) fn has_tag(bytes: &[u8], tag: u64) -> bool {
    bytes.ends_with(&tag.to_be_bytes())
}

/// The first packet of a connection, as far as the protocol has such; sums are left out, nobody looks at them.
fn transport(packet: &Packet) -> Vec<u8> {
    let mut ports = packet.source_port.to_be_bytes().to_vec();
    ports.extend(packet.destination_port.to_be_bytes());
    match (packet.protocol, packet.icmp) {
        // Sequence number, acknowledgement, length of the header, SYN.
        (6, _) => [
            &ports[..],
            &[0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0x20, 0, 0, 0, 0, 0],
        ]
        .concat(),
        (17, _) => [&ports[..], &[0; 4]].concat(),
        // No verification tag, no sum; a chunk INIT that the tag is part of.
        (132, _) => [
            &ports[..],
            &[0; 8],
            &[1, 0, 0, 28, 0, 0, 0, 1, 0, 0, 0x20, 0, 0, 1, 0, 1, 0, 0, 0, 1],
        ]
        .concat(),
        (_, Some((type_, code))) => vec![type_, code, 0, 0, 0, 7, 0, 1],
        (47, None) => vec![0, 0, 8, 0],
        _ => vec![0; 20],
    }
}

fn checksum(header: &[u8]) -> u16 {
    let words = header
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}
