//! OPEN (RFC 4271 §4.2, §6.2), its optional parameters in both lengths (RFC 9072), capabilities inside (RFC 5492).

use std::net::Ipv4Addr;

use super::capability::Capabilities;
use super::cursor::Cursor;
use super::message::TYPE_OPEN;
use super::notification::{Notification, OPEN_MESSAGE_ERROR};

/// 23456: what stands in the two-octet field for an AS number that needs four (RFC 6793 §9).
pub const AS_TRANS: u16 = 23456;
const VERSION: u8 = 4;
const PARAMETER_CAPABILITIES: u8 = 2;
const PARAMETER_EXTENDED: u8 = 255;

/// The contents of an OPEN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The sender's AS number, from the capability of RFC 6793 when it is there.
    pub as_number: u32,
    /// Proposed hold time in seconds.
    pub hold_seconds: u16,
    /// BGP Identifier.
    pub router_id: Ipv4Addr,
    /// Capabilities.
    pub capabilities: Capabilities,
}

impl Open {
    /// Parses what follows the header and checks what needs no configuration.
    ///
    /// # Errors
    /// The NOTIFICATION of RFC 4271 §6.2 to answer with.
    pub fn parse(body: &[u8]) -> Result<Self, Notification> {
        let unspecific = || Notification::new(OPEN_MESSAGE_ERROR, 0, []);
        let mut cursor = Cursor::new(body);
        let version = cursor.u8().ok_or_else(unspecific)?;
        if version != VERSION {
            // The data is the largest version that is supported.
            let data = u16::from(VERSION).to_be_bytes();
            return Err(Notification::new(OPEN_MESSAGE_ERROR, 1, data));
        }
        let short_as = cursor.u16().ok_or_else(unspecific)?;
        let hold_seconds = cursor.u16().ok_or_else(unspecific)?;
        let router_id = Ipv4Addr::from(cursor.u32().ok_or_else(unspecific)?);
        let parameters = parameters(&mut cursor).ok_or_else(unspecific)?;
        let capabilities = capabilities(parameters)?;
        let as_number = capabilities.as4.unwrap_or(u32::from(short_as));
        // RFC 7607 §2, RFC 6793 §4.1: neither zero nor, where four octets speak, a short field that contradicts.
        let consistent = capabilities
            .as4
            .is_none_or(|long| u16::try_from(long).unwrap_or(AS_TRANS) == short_as || short_as == AS_TRANS);
        if as_number == 0 || short_as == 0 || !consistent {
            return Err(Notification::new(OPEN_MESSAGE_ERROR, 2, []));
        }
        if matches!(hold_seconds, 1 | 2) {
            return Err(Notification::new(OPEN_MESSAGE_ERROR, 6, []));
        }
        // RFC 6286 §2.2.
        if router_id.is_unspecified() {
            return Err(Notification::new(OPEN_MESSAGE_ERROR, 3, []));
        }
        Ok(Self {
            as_number,
            hold_seconds,
            router_id,
            capabilities,
        })
    }

    /// Appends the whole message. Parameters past 255 octets take the extended form of RFC 9072.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut capabilities = Vec::new();
        self.capabilities.encode(&mut capabilities);
        super::encode::message(out, TYPE_OPEN, |out| {
            out.push(VERSION);
            let short = u16::try_from(self.as_number).unwrap_or(AS_TRANS);
            out.extend(short.to_be_bytes());
            out.extend(self.hold_seconds.to_be_bytes());
            out.extend(self.router_id.octets());
            let length = capabilities.len();
            if length == 0 {
                out.push(0);
            } else if let (Ok(all), Ok(one)) = (u8::try_from(length + 2), u8::try_from(length)) {
                out.extend([all, PARAMETER_CAPABILITIES, one]);
            } else {
                let one = u16::try_from(length).unwrap_or(u16::MAX);
                out.extend([255, PARAMETER_EXTENDED]);
                out.extend(one.saturating_add(3).to_be_bytes());
                out.push(PARAMETER_CAPABILITIES);
                out.extend(one.to_be_bytes());
            }
            out.extend(&capabilities);
        });
    }
}

/// The optional parameters and whether their lengths take two octets (RFC 9072 §2).
struct Parameters<'a> {
    cursor: Cursor<'a>,
    extended: bool,
}

fn parameters<'a>(cursor: &mut Cursor<'a>) -> Option<Parameters<'a>> {
    let short = cursor.u8()?;
    let mut ahead = *cursor;
    // RFC 9072 §2: the extended form is known by the type octet of the first parameter; the short length should be
    // 255 but any that is not zero is taken.
    if short != 0 && ahead.u8() == Some(PARAMETER_EXTENDED) {
        let length = ahead.u16()?;
        let block = ahead.take(usize::from(length))?;
        return ahead.is_empty().then_some(Parameters {
            cursor: Cursor::new(block),
            extended: true,
        });
    }
    let block = cursor.take(usize::from(short))?;
    cursor.is_empty().then_some(Parameters {
        cursor: Cursor::new(block),
        extended: false,
    })
}

fn capabilities(mut parameters: Parameters<'_>) -> Result<Capabilities, Notification> {
    let unspecific = || Notification::new(OPEN_MESSAGE_ERROR, 0, []);
    let mut capabilities = Capabilities::default();
    let cursor = &mut parameters.cursor;
    while !cursor.is_empty() {
        let kind = cursor.u8().ok_or_else(unspecific)?;
        let length = if parameters.extended {
            cursor.u16().map(usize::from)
        } else {
            cursor.u8().map(usize::from)
        };
        let value = length
            .and_then(|length| cursor.take(length))
            .ok_or_else(unspecific)?;
        if kind != PARAMETER_CAPABILITIES {
            return Err(Notification::new(OPEN_MESSAGE_ERROR, 4, []));
        }
        capabilities.parse(value).ok_or_else(unspecific)?;
    }
    Ok(capabilities)
}

#[cfg(test)]
#[path = "open/tests.rs"]
mod tests;
