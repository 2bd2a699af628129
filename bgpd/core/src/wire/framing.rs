//! Cutting a TCP stream into messages (RFC 4271 §4.1). Allocates nothing; judges only what is needed to find the end.

/// Octets of the header.
pub const HEADER_LEN: usize = 19;
/// Longest message without the extension of RFC 8654.
pub const MESSAGE_LEN_MAX: usize = 4096;
/// Longest message with it, and so the buffer that a connection needs at most.
pub const EXTENDED_LEN_MAX: usize = 65535;

/// What stands at the beginning of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Not yet a whole message: this many octets are needed in all.
    Partial(usize),
    /// The first this many octets are one message.
    Message(usize),
    /// The header cannot be right. Hand these first octets over as a message: the speaker answers with the error and
    /// closes. Nothing after them can be made sense of.
    Malformed(usize),
}

/// Looks for a message at the beginning of `buffer`.
pub fn frame(buffer: &[u8]) -> Frame {
    let Some(header) = buffer.first_chunk::<HEADER_LEN>() else {
        return Frame::Partial(HEADER_LEN);
    };
    let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
    if length < HEADER_LEN || header[..16].iter().any(|octet| *octet != 0xff) {
        Frame::Malformed(HEADER_LEN)
    } else if buffer.len() < length {
        Frame::Partial(length)
    } else {
        Frame::Message(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_end_of_a_message() {
        let mut keepalive = vec![0xff; 16];
        keepalive.extend([0, 19, 4]);
        let cases: [(&[u8], Frame); 5] = [
            (&[], Frame::Partial(19)),
            (&keepalive[..18], Frame::Partial(19)),
            (&keepalive, Frame::Message(19)),
            (&[0xff; 19], Frame::Partial(65535)),
            (&[0; 19], Frame::Malformed(19)),
        ];
        for (bytes, expected) in cases {
            assert_eq!(frame(bytes), expected, "{bytes:?}");
        }
    }
}
