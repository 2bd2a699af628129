//! The wire format of RFC 4271 and its extensions: a strict view of what is received, encoders for what is sent.
//!
//! Nothing here keeps state, and no input makes it panic or allocate more than a small multiple of the message. A
//! message goes through [`message::Message::parse`]; an error is the NOTIFICATION to answer with. UPDATEs are judged as
//! RFC 7606 wants it: [`update::UpdateView`] says whether its routes are to be used, withdrawn, or the session reset.

pub mod as_path;
pub mod attribute;
pub mod canonical;
pub mod capability;
mod cursor;
pub mod encode;
pub mod framing;
pub mod message;
pub mod mp;
pub mod nlri;
pub mod notification;
pub mod open;
pub mod refresh;
mod revised_errors;
pub mod update;
