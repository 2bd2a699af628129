//! The control packet (RFC 5880 §4.1) and the checks of its reception that need no session (§6.8.6).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Octets of a packet without authentication.
pub const PACKET_LEN: usize = 24;

const VERSION: u8 = 1;
const POLL: u8 = 0x20;
const FINAL: u8 = 0x10;
const AUTHENTICATION: u8 = 0x04;
const DEMAND: u8 = 0x02;
const MULTIPOINT: u8 = 0x01;

/// State of a session (RFC 5880 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Switched off by an operator: no failure.
    AdminDown,
    /// The other end is not heard.
    Down,
    /// It is heard, and does not hear us yet, for all we know.
    Init,
    /// Both hear each other.
    Up,
}

impl State {
    fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::AdminDown,
            1 => Self::Down,
            2 => Self::Init,
            _ => Self::Up,
        }
    }

    fn bits(self) -> u8 {
        match self {
            Self::AdminDown => 0,
            Self::Down => 1,
            Self::Init => 2,
            Self::Up => 3,
        }
    }
}

/// Why a session last changed (RFC 5880 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Diagnostic {
    /// Nothing to say.
    None,
    /// No packet came within the detection time.
    TimeExpired,
    /// The neighbour said that its session is down.
    NeighborDown,
    /// Switched off here.
    AdminDown,
    /// Another code, as it was received.
    Other(u8),
}

impl Diagnostic {
    fn from_code(code: u8) -> Self {
        match code {
            0 => Self::None,
            1 => Self::TimeExpired,
            3 => Self::NeighborDown,
            7 => Self::AdminDown,
            other => Self::Other(other),
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::TimeExpired => 1,
            Self::NeighborDown => 3,
            Self::AdminDown => 7,
            Self::Other(code) => code & 0x1f,
        }
    }
}

/// Why a packet is dropped (RFC 5880 §6.8.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PacketError {
    /// Shorter than it says, or than any packet is.
    #[error("is shorter than it has to be")]
    Length,
    /// Not version 1.
    #[error("is of another version than 1")]
    Version,
    /// A zero where none may be.
    #[error("has a zero detection multiplier or discriminator")]
    Zero,
    /// The multipoint bit.
    #[error("is for multipoint sessions")]
    Multipoint,
    /// Authentication, which is not there.
    #[error("is authenticated: switch authentication off at the neighbour")]
    Authentication,
    /// Your Discriminator is zero in a state that needs it.
    #[error("names no session though it is up")]
    NoSession,
}

/// A control packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Why the sender last changed its state.
    pub diagnostic: Diagnostic,
    /// The sender's state.
    pub state: State,
    /// The sender wants an answer at once.
    pub poll: bool,
    /// The answer to that.
    pub is_final: bool,
    /// The sender wants no periodic packets.
    pub demand: bool,
    /// The sender's Detect Mult.
    pub multiplier: u8,
    /// The sender's number for the session.
    pub my_discriminator: u32,
    /// The receiver's, as far as the sender knows it.
    pub your_discriminator: u32,
    /// Shortest interval at which the sender sends.
    pub desired_min_tx: Duration,
    /// Shortest interval at which it takes packets; zero: none at all.
    pub required_min_rx: Duration,
}

impl Packet {
    /// Parses the payload of a datagram.
    ///
    /// # Errors
    /// Why the packet has to be dropped.
    pub fn parse(bytes: &[u8]) -> Result<Self, PacketError> {
        let fixed: &[u8; PACKET_LEN] = bytes.first_chunk().ok_or(PacketError::Length)?;
        let [first, flags, multiplier, length, words @ ..] = fixed;
        if first >> 5 != VERSION {
            return Err(PacketError::Version);
        }
        let length = usize::from(*length);
        if length < PACKET_LEN || length > bytes.len() {
            return Err(PacketError::Length);
        }
        if flags & MULTIPOINT != 0 {
            return Err(PacketError::Multipoint);
        }
        if flags & AUTHENTICATION != 0 {
            return Err(PacketError::Authentication);
        }
        let mut words = words
            .chunks_exact(4)
            .map(|word| word.try_into().map_or(0, u32::from_be_bytes));
        let mut next = || words.next().unwrap_or_default();
        let micros = |value: u32| Duration::from_micros(u64::from(value));
        let packet = Self {
            diagnostic: Diagnostic::from_code(first & 0x1f),
            state: State::from_bits(flags >> 6),
            poll: flags & POLL != 0,
            is_final: flags & FINAL != 0,
            demand: flags & DEMAND != 0,
            multiplier: *multiplier,
            my_discriminator: next(),
            your_discriminator: next(),
            desired_min_tx: micros(next()),
            required_min_rx: micros(next()),
        };
        if packet.multiplier == 0 || packet.my_discriminator == 0 {
            return Err(PacketError::Zero);
        }
        let is_down = matches!(packet.state, State::Down | State::AdminDown);
        if packet.your_discriminator == 0 && !is_down {
            return Err(PacketError::NoSession);
        }
        Ok(packet)
    }

    /// The payload of a datagram.
    #[must_use]
    pub fn encode(&self) -> [u8; PACKET_LEN] {
        let mut out = [0; PACKET_LEN];
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        let flags = self.state.bits() << 6
            | flag(self.poll, POLL)
            | flag(self.is_final, FINAL)
            | flag(self.demand, DEMAND);
        let micros = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        // The length is the constant above.
        let head = [VERSION << 5 | self.diagnostic.code(), flags, self.multiplier, 24];
        let words = [
            self.my_discriminator,
            self.your_discriminator,
            micros(self.desired_min_tx),
            micros(self.required_min_rx),
            // Required Min Echo RX Interval: echo packets are not returned here.
            0,
        ];
        let octets = head
            .into_iter()
            .chain(words.into_iter().flat_map(u32::to_be_bytes));
        for (place, octet) in out.iter_mut().zip(octets) {
            *place = octet;
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet() -> Packet {
        Packet {
            diagnostic: Diagnostic::NeighborDown,
            state: State::Init,
            poll: true,
            is_final: false,
            demand: false,
            multiplier: 3,
            my_discriminator: 0x0102_0304,
            your_discriminator: 7,
            desired_min_tx: Duration::from_millis(300),
            required_min_rx: Duration::from_millis(50),
        }
    }

    #[test]
    fn packets_read_as_they_were_written() {
        let bytes = packet().encode();
        assert_eq!(bytes[..12], [0x23, 0xa0, 3, 24, 1, 2, 3, 4, 0, 0, 0, 7]);
        assert_eq!(Packet::parse(&bytes), Ok(packet()));
        // What comes behind the length is padding.
        assert_eq!(Packet::parse(&[&bytes[..], &[1, 2]].concat()), Ok(packet()));
    }

    #[test]
    fn what_rfc_5880_wants_dropped_is_dropped() {
        let change = |at: usize, value: u8| {
            let mut bytes = packet().encode();
            bytes[at] = value;
            Packet::parse(&bytes).unwrap_err()
        };
        assert_eq!(change(0, 0x43), PacketError::Version);
        assert_eq!(change(1, 0xa1), PacketError::Multipoint);
        assert_eq!(change(1, 0xa4), PacketError::Authentication);
        assert_eq!(change(2, 0), PacketError::Zero);
        assert_eq!(change(3, 25), PacketError::Length);
        assert_eq!(change(3, 23), PacketError::Length);
        assert_eq!(change(11, 0), PacketError::NoSession);
        for length in 0..PACKET_LEN {
            assert_eq!(
                Packet::parse(&packet().encode()[..length]),
                Err(PacketError::Length)
            );
        }
    }

    #[test]
    fn any_octets_are_read_without_harm() {
        use rand::{Rng, SeedableRng};
        let mut rng = rand::rngs::SmallRng::seed_from_u64(1);
        let mut read = 0;
        for _ in 0..200_000 {
            let mut bytes: Vec<u8> = (0..rng.random_range(0..40)).map(|_| rng.random()).collect();
            if let [first, _, _, length, ..] = bytes.as_mut_slice() {
                *first = 0x20 | *first & 0x1f;
                *length = 24;
            }
            if let Ok(packet) = Packet::parse(&bytes) {
                read += 1;
                assert_eq!(Packet::parse(&packet.encode()), Ok(packet));
            }
        }
        assert!(read > 1000, "{read}");
    }
}
