//! A peer written by hand: octets on a TCP connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use caracal_bgpd_core::Family;
use caracal_bgpd_core::wire::capability::Capabilities;
use caracal_bgpd_core::wire::encode;
use caracal_bgpd_core::wire::framing::{Frame, frame};
use caracal_bgpd_core::wire::open::Open;
use socket2::{Domain, Socket, Type};

use super::lab::{Lab, address, node_address};

/// A connection to our speaker.
pub(crate) struct Raw {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Raw {
    /// Connects from a machine, with this TTL.
    pub(crate) fn connect(lab: &Lab, index: usize, ttl: u32) -> Self {
        let connect = || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_ttl_v4(ttl).unwrap();
            let from: SocketAddr = format!("{}:0", address(index, false)).parse().unwrap();
            let to: SocketAddr = format!("{}:179", node_address(index, false)).parse().unwrap();
            socket.bind(&from.into()).unwrap();
            socket.connect(&to.into()).unwrap();
            let stream = TcpStream::from(socket);
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            stream.set_nodelay(true).unwrap();
            stream
        };
        Self {
            stream: lab.machines[index].run(connect).unwrap(),
            buffer: Vec::new(),
        }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        // A peer that has been sent away may find the connection closed.
        let _ = self.stream.write_all(bytes);
    }

    /// Sends OPEN and KEEPALIVE.
    pub(crate) fn open(&mut self, own_as: u32) {
        let bytes = open(own_as);
        self.send(&bytes);
        self.keepalive();
    }

    pub(crate) fn keepalive(&mut self) {
        let mut bytes = Vec::new();
        encode::keepalive(&mut bytes);
        self.send(&bytes);
    }

    /// The next message with its header; `None` at the end of the stream, or of patience.
    pub(crate) fn message(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Frame::Message(length) = frame(&self.buffer) {
                return Some(self.buffer.drain(..length).collect());
            }
            let mut part = [0; 4096];
            let count = self.stream.read(&mut part).ok().filter(|count| *count > 0)?;
            self.buffer.extend(&part[..count]);
        }
    }

    /// Code and subcode of the NOTIFICATION that ends the session.
    pub(crate) fn notification(&mut self) -> Option<(u8, u8)> {
        loop {
            let message = self.message()?;
            if message[18] == 3 {
                return Some((message[19], message[20]));
            }
        }
    }
}

/// An OPEN of a speaker with IPv4, four-octet AS numbers and route refresh.
pub(crate) fn open(own_as: u32) -> Vec<u8> {
    let open = Open {
        as_number: own_as,
        hold_seconds: 90,
        router_id: "10.99.0.2".parse().unwrap(),
        capabilities: Capabilities {
            families: vec![Family::Ipv4],
            as4: Some(own_as),
            route_refresh: true,
            ..Capabilities::default()
        },
    };
    let mut bytes = Vec::new();
    open.encode(&mut bytes);
    bytes
}

/// An UPDATE of these attributes and prefixes, each as length and octets.
pub(crate) fn update(attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode::message(&mut bytes, 2, |out| {
        out.extend([0, 0]);
        out.extend(u16::try_from(attributes.len()).unwrap().to_be_bytes());
        out.extend(attributes);
        out.extend(nlri);
    });
    bytes
}
