//! NOTIFICATION: why a session ends (RFC 4271 §4.5, §6; RFC 4486, RFC 8538, RFC 9003, RFC 9687).

use std::fmt;

use super::cursor::Cursor;
use super::framing::{HEADER_LEN, MESSAGE_LEN_MAX};

/// Error code of a message header error.
pub const MESSAGE_HEADER_ERROR: u8 = 1;
/// Error code of an OPEN message error.
pub const OPEN_MESSAGE_ERROR: u8 = 2;
/// Error code of an UPDATE message error.
pub const UPDATE_MESSAGE_ERROR: u8 = 3;
/// Error code of an expired hold timer.
pub const HOLD_TIMER_EXPIRED: u8 = 4;
/// Error code of a message that the state does not expect (subcodes of RFC 6608).
pub const FSM_ERROR: u8 = 5;
/// Error code of a wanted end.
pub const CEASE: u8 = 6;
/// Error code of a malformed ROUTE-REFRESH (RFC 7313).
pub const ROUTE_REFRESH_ERROR: u8 = 7;
/// Error code of an expired send hold timer (RFC 9687).
pub const SEND_HOLD_TIMER_EXPIRED: u8 = 8;

/// Longest shutdown text in octets (RFC 9003 §2).
pub const SHUTDOWN_TEXT_MAX: usize = 255;

/// Subcodes of Cease (RFC 4486, RFC 8538, RFC 9384).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CeaseSubcode {
    /// More prefixes than the limit.
    MaximumNumberOfPrefixes = 1,
    /// Shut down by an operator.
    AdministrativeShutdown = 2,
    /// The peer is not configured any more.
    PeerDeconfigured = 3,
    /// Reset by an operator.
    AdministrativeReset = 4,
    /// A connection that is not wanted.
    ConnectionRejected = 5,
    /// The configuration changed in what a session depends on.
    OtherConfigurationChange = 6,
    /// The other connection of the same two speakers won (RFC 4271 §6.8).
    ConnectionCollisionResolution = 7,
    /// Out of memory or the like.
    OutOfResources = 8,
    /// The end of the session and of its routes, also with graceful restart (RFC 8538 §3).
    HardReset = 9,
    /// BFD says that the peer is gone (RFC 9384).
    BfdDown = 10,
}

/// What a NOTIFICATION says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Error code.
    pub code: u8,
    /// Error subcode.
    pub subcode: u8,
    /// Data; its meaning depends on the two.
    pub data: Vec<u8>,
}

impl Notification {
    /// Returns one with these fields.
    pub fn new(code: u8, subcode: u8, data: impl Into<Vec<u8>>) -> Self {
        Self {
            code,
            subcode,
            data: data.into(),
        }
    }

    /// Returns a Cease without text.
    pub fn cease(subcode: CeaseSubcode) -> Self {
        Self::new(CEASE, subcode as u8, [])
    }

    /// Returns a Cease with a text for the peer's operator, cut to what fits at a character's end (RFC 9003 §2).
    pub fn cease_with_text(subcode: CeaseSubcode, text: &str) -> Self {
        let cut = text.floor_char_boundary(SHUTDOWN_TEXT_MAX);
        let text = text.as_bytes().get(..cut).unwrap_or_default();
        if text.is_empty() {
            return Self::cease(subcode);
        }
        let mut data = vec![u8::try_from(text.len()).unwrap_or(u8::MAX)];
        data.extend(text);
        Self::new(CEASE, subcode as u8, data)
    }

    /// Wraps this one into a Hard Reset (RFC 8538 §3.1).
    pub fn into_hard_reset(self) -> Self {
        let mut data = vec![self.code, self.subcode];
        data.extend(self.data);
        Self::new(CEASE, CeaseSubcode::HardReset as u8, data)
    }

    /// Whether it means the end of the session for good, so that routes are not to be kept for it (RFC 8538 §5).
    pub fn is_final(&self) -> bool {
        let last = [
            CeaseSubcode::MaximumNumberOfPrefixes as u8,
            CeaseSubcode::AdministrativeShutdown as u8,
            CeaseSubcode::PeerDeconfigured as u8,
            // Packets do not get through, whatever was agreed on restarts.
            CeaseSubcode::BfdDown as u8,
        ];
        self.code == CEASE && last.contains(&self.subcode)
    }

    /// The NOTIFICATION inside a Hard Reset (RFC 8538 §3.1).
    fn cause(&self) -> Option<Self> {
        match self.data.as_slice() {
            [code, subcode, data @ ..] if self.is_hard_reset() => Some(Self::new(*code, *subcode, data)),
            _ => None,
        }
    }

    /// Whether it asks for the routes to go at once, whatever was agreed on restarts (RFC 8538 §3).
    pub fn is_hard_reset(&self) -> bool {
        self.code == CEASE && self.subcode == CeaseSubcode::HardReset as u8
    }

    /// Parses what follows the header. Any data is taken: a NOTIFICATION is never answered (RFC 4271 §6.4).
    pub fn parse(body: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(body);
        let code = cursor.u8()?;
        let subcode = cursor.u8()?;
        Some(Self::new(code, subcode, cursor.rest()))
    }

    /// Appends the whole message. Data that does not fit a message of 4096 octets is cut.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let room = MESSAGE_LEN_MAX - HEADER_LEN - 2;
        let data = self.data.get(..room).unwrap_or(&self.data);
        super::encode::message(out, super::message::TYPE_NOTIFICATION, |out| {
            out.extend([self.code, self.subcode]);
            out.extend(data);
        });
    }

    /// Returns the text that came with an administrative shutdown or reset. One with a wrong length or that is no
    /// UTF-8 is no text; it is no error either (RFC 9003 §2).
    pub fn text(&self) -> Option<&str> {
        let administrative = [
            CeaseSubcode::AdministrativeShutdown as u8,
            CeaseSubcode::AdministrativeReset as u8,
        ];
        if self.code != CEASE || !administrative.contains(&self.subcode) {
            return None;
        }
        let mut cursor = Cursor::new(&self.data);
        let length = usize::from(cursor.u8()?);
        let text = cursor.take(length)?;
        std::str::from_utf8(text).ok().filter(|text| !text.is_empty())
    }

    fn name(&self) -> &'static str {
        match (self.code, self.subcode) {
            (1, 1) => "connection not synchronized",
            (1, 2) => "bad message length",
            (1, 3) => "bad message type",
            (1, _) => "message header error",
            (2, 1) => "unsupported version number",
            (2, 2) => "bad peer AS",
            (2, 3) => "bad BGP identifier",
            (2, 4) => "unsupported optional parameter",
            (2, 6) => "unacceptable hold time",
            (2, 7) => "unsupported capability",
            (2, 11) => "role mismatch",
            (2, _) => "OPEN message error",
            (3, 1) => "malformed attribute list",
            (3, 2) => "unrecognized well-known attribute",
            (3, 3) => "missing well-known attribute",
            (3, 4) => "attribute flags error",
            (3, 5) => "attribute length error",
            (3, 6) => "invalid ORIGIN attribute",
            (3, 8) => "invalid NEXT_HOP attribute",
            (3, 9) => "optional attribute error",
            (3, 10) => "invalid network field",
            (3, 11) => "malformed AS_PATH",
            (3, _) => "UPDATE message error",
            (4, _) => "hold timer expired",
            (5, _) => "message not expected in this state",
            (6, 1) => "maximum number of prefixes reached",
            (6, 2) => "administrative shutdown",
            (6, 3) => "peer de-configured",
            (6, 4) => "administrative reset",
            (6, 5) => "connection rejected",
            (6, 6) => "other configuration change",
            (6, 7) => "connection collision resolution",
            (6, 8) => "out of resources",
            (6, 9) => "hard reset",
            (6, 10) => "BFD down",
            (6, _) => "cease",
            (7, _) => "ROUTE-REFRESH message error",
            (8, _) => "send hold timer expired",
            _ => "unknown error",
        }
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}/{})", self.name(), self.code, self.subcode)?;
        if let Some(cause) = self.cause().filter(|cause| !cause.is_hard_reset()) {
            return write!(f, ": {cause}");
        }
        if let Some(text) = self.text() {
            write!(f, ": {text:?}")
        } else if self.data.is_empty() {
            Ok(())
        } else {
            f.write_str(", data ")?;
            self.data
                .iter()
                .take(64)
                .try_for_each(|octet| write!(f, "{octet:02x}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 9003 §2.
    #[test]
    fn shutdown_text_goes_both_ways_and_a_wrong_length_is_harmless() {
        let sent = Notification::cease_with_text(CeaseSubcode::AdministrativeShutdown, "über Nacht");
        let mut bytes = Vec::new();
        sent.encode(&mut bytes);
        assert_eq!(&bytes[16..22], [0, 33, 3, 6, 2, 11]);
        let received = Notification::parse(&bytes[19..]).unwrap();
        assert_eq!(received.text(), Some("über Nacht"));
        assert_eq!(Notification::new(6, 2, [200, b'x']).text(), None);
        assert_eq!(Notification::new(6, 2, [1, 0xff]).text(), None);
        let long = "é".repeat(200);
        let cut = Notification::cease_with_text(CeaseSubcode::AdministrativeReset, &long);
        assert_eq!(cut.text().map(str::len), Some(254));
    }

    // RFC 8538 §3.1.
    #[test]
    fn hard_reset_carries_the_cause() {
        let hard = Notification::cease(CeaseSubcode::AdministrativeReset).into_hard_reset();
        assert!(hard.is_hard_reset());
        assert_eq!(hard.data, [6, 4]);
    }
}
