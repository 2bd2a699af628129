//! The wire format of RFC 4271 and its extensions: a strict view of what is received, encoders for what is sent.
//!
//! Nothing here keeps state, and no input makes it panic or allocate more than a small multiple of the message.

pub mod framing;
