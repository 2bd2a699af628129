//! ROUTE-REFRESH (RFC 2918) and its demarcation of what is sent again (RFC 7313).

use super::cursor::Cursor;
use super::message::TYPE_ROUTE_REFRESH;
use super::notification::{Notification, ROUTE_REFRESH_ERROR};
use crate::family::Family;

/// What a ROUTE-REFRESH says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshKind {
    /// Send the routes again.
    Request,
    /// Beginning of what is sent again (BoRR).
    Begin,
    /// End of it (EoRR).
    End,
    /// A subtype of nobody's: to be ignored (RFC 7313 §5).
    Unknown(u8),
}

/// A ROUTE-REFRESH message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refresh {
    /// The family, `None` for one that is not carried here.
    pub family: Option<Family>,
    /// What it says.
    pub kind: RefreshKind,
}

impl Refresh {
    /// Parses what follows the header.
    ///
    /// # Errors
    /// 7/1 with the whole message as data when the length is wrong (RFC 7313 §5).
    pub fn parse(body: &[u8]) -> Result<Self, Notification> {
        let mut cursor = Cursor::new(body);
        let fields = (cursor.u16(), cursor.u8(), cursor.u8());
        let (Some(afi), Some(subtype), Some(safi), true) = (fields.0, fields.1, fields.2, cursor.is_empty())
        else {
            let mut data = Vec::new();
            super::encode::message(&mut data, TYPE_ROUTE_REFRESH, |out| out.extend(body));
            return Err(Notification::new(ROUTE_REFRESH_ERROR, 1, data));
        };
        let kind = match subtype {
            0 => RefreshKind::Request,
            1 => RefreshKind::Begin,
            2 => RefreshKind::End,
            other => RefreshKind::Unknown(other),
        };
        Ok(Self {
            family: Family::from_afi_safi(afi, safi),
            kind,
        })
    }

    /// Appends the whole message about `family`.
    pub fn encode(family: Family, kind: RefreshKind, out: &mut Vec<u8>) {
        let subtype = match kind {
            RefreshKind::Request => 0,
            RefreshKind::Begin => 1,
            RefreshKind::End => 2,
            RefreshKind::Unknown(other) => other,
        };
        super::encode::message(out, TYPE_ROUTE_REFRESH, |out| {
            out.extend(family.afi().to_be_bytes());
            out.extend([subtype, 1]);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 2918 §3, RFC 7313 §4.
    #[test]
    fn is_encoded_and_parsed() {
        let mut bytes = Vec::new();
        Refresh::encode(Family::Ipv6, RefreshKind::Begin, &mut bytes);
        assert_eq!(&bytes[16..], [0, 23, 5, 0, 2, 1, 1]);
        let expected = Refresh {
            family: Some(Family::Ipv6),
            kind: RefreshKind::Begin,
        };
        assert_eq!(Refresh::parse(&bytes[19..]), Ok(expected));
        let unknown = Refresh::parse(&[0, 25, 0, 70]).unwrap();
        assert_eq!(unknown.family, None);
    }

    // RFC 7313 §5.
    #[test]
    fn wrong_length_is_answered_with_the_message() {
        let error = Refresh::parse(&[0, 1, 0]).unwrap_err();
        assert_eq!((error.code, error.subcode, error.data.len()), (7, 1, 22));
    }
}
