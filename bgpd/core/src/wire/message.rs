//! The message header and what kind of message follows (RFC 4271 §4.1, §6.1; RFC 8654).

use super::framing::{EXTENDED_LEN_MAX, HEADER_LEN, MESSAGE_LEN_MAX};
use super::notification::{MESSAGE_HEADER_ERROR, Notification};
use super::open::Open;
use super::refresh::Refresh;

/// Type code of OPEN.
pub const TYPE_OPEN: u8 = 1;
/// Type code of UPDATE.
pub const TYPE_UPDATE: u8 = 2;
/// Type code of NOTIFICATION.
pub const TYPE_NOTIFICATION: u8 = 3;
/// Type code of KEEPALIVE.
pub const TYPE_KEEPALIVE: u8 = 4;
/// Type code of ROUTE-REFRESH (RFC 2918).
pub const TYPE_ROUTE_REFRESH: u8 = 5;

/// A received message. The body of an UPDATE is still to be parsed, with what the session has agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// OPEN.
    Open(Open),
    /// UPDATE: what follows the header.
    Update(&'a [u8]),
    /// NOTIFICATION.
    Notification(Notification),
    /// KEEPALIVE.
    Keepalive,
    /// ROUTE-REFRESH.
    Refresh(Refresh),
}

impl<'a> Message<'a> {
    /// Parses one message with its header. `extended` allows 65535 octets where RFC 8654 does.
    ///
    /// # Errors
    /// The NOTIFICATION to answer with before the connection is closed.
    pub fn parse(bytes: &'a [u8], extended: bool) -> Result<Self, Notification> {
        let (kind, body) = split(bytes, extended)?;
        match kind {
            TYPE_OPEN => Open::parse(body).map(Message::Open),
            TYPE_UPDATE => Ok(Message::Update(body)),
            TYPE_NOTIFICATION => Notification::parse(body)
                .map(Message::Notification)
                .ok_or_else(|| bad_length(bytes.len())),
            TYPE_KEEPALIVE => Ok(Message::Keepalive),
            _ => Refresh::parse(body).map(Message::Refresh),
        }
    }
}

/// RFC 4271 §6.1: 1/2 carries the erroneous length field.
fn bad_length(length: usize) -> Notification {
    let field = u16::try_from(length).unwrap_or(u16::MAX);
    Notification::new(MESSAGE_HEADER_ERROR, 2, field.to_be_bytes())
}

fn split(bytes: &[u8], extended: bool) -> Result<(u8, &[u8]), Notification> {
    let Some((header, body)) = bytes.split_first_chunk::<HEADER_LEN>() else {
        return Err(bad_length(bytes.len()));
    };
    let [marker @ .., high, low, kind] = header;
    if marker.iter().any(|octet| *octet != 0xff) {
        return Err(Notification::new(MESSAGE_HEADER_ERROR, 1, []));
    }
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if !(TYPE_OPEN..=TYPE_ROUTE_REFRESH).contains(kind) {
        return Err(Notification::new(MESSAGE_HEADER_ERROR, 3, [*kind]));
    }
    // RFC 8654 §4: OPEN and KEEPALIVE stay within 4096 octets.
    let long = extended && !matches!(*kind, TYPE_OPEN | TYPE_KEEPALIVE);
    let longest = if long { EXTENDED_LEN_MAX } else { MESSAGE_LEN_MAX };
    let allowed = match *kind {
        TYPE_OPEN => 29..=longest,
        TYPE_UPDATE => 23..=longest,
        TYPE_NOTIFICATION => 21..=longest,
        TYPE_KEEPALIVE => HEADER_LEN..=HEADER_LEN,
        // RFC 7313 §5 judges the length of ROUTE-REFRESH by an error of its own.
        _ => HEADER_LEN..=longest,
    };
    if length != bytes.len() || !allowed.contains(&length) {
        return Err(bad_length(length));
    }
    Ok((*kind, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: u16, kind: u8, body: usize) -> Vec<u8> {
        let mut bytes = vec![0xff; 16];
        bytes.extend(length.to_be_bytes());
        bytes.push(kind);
        bytes.extend(vec![0; body]);
        bytes
    }

    // RFC 4271 §6.1.
    #[test]
    fn header_errors_name_their_subcode_and_data() {
        let mut marker = message(19, 4, 0);
        marker[3] = 0;
        let cases = [
            (marker, (1, 1, vec![])),
            (message(19, 9, 0), (1, 3, vec![9])),
            (message(20, 4, 1), (1, 2, vec![0, 20])),
            (message(28, 1, 9), (1, 2, vec![0, 28])),
            (message(22, 2, 3), (1, 2, vec![0, 22])),
            (message(20, 3, 1), (1, 2, vec![0, 20])),
            (message(18, 4, 0), (1, 2, vec![0, 18])),
            (message(4097, 2, 4078), (1, 2, vec![0x10, 1])),
        ];
        for (bytes, (code, subcode, data)) in cases {
            let expected = Notification::new(code, subcode, data);
            assert_eq!(Message::parse(&bytes, false), Err(expected), "{bytes:?}");
        }
        assert_eq!(Message::parse(&message(19, 4, 0), false), Ok(Message::Keepalive));
    }

    // RFC 8654 §4.
    #[test]
    fn extended_length_is_for_all_but_open_and_keepalive() {
        let long = message(5000, TYPE_UPDATE, 4981);
        assert!(Message::parse(&long, true).is_ok());
        assert!(Message::parse(&long, false).is_err());
        let open = message(5000, TYPE_OPEN, 4981);
        assert_eq!(
            Message::parse(&open, true),
            Err(Notification::new(1, 2, 5000_u16.to_be_bytes()))
        );
    }
}
