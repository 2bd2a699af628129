//! One message, or what is taken for one: it is read or refused, and what is read survives being written again.
//!
//! The first octet chooses what the session has agreed on, the rest are the octets of a stream.

use caracal_bgpd_core::Family;
use caracal_bgpd_core::bfd;
use caracal_bgpd_core::wire::framing::{Frame, HEADER_LEN, frame};
use caracal_bgpd_core::wire::message::Message;
use caracal_bgpd_core::wire::mp::MpContext;
use caracal_bgpd_core::wire::open::Open;
use caracal_bgpd_core::wire::update::{UpdateContext, UpdateView};

/// Runs the target.
pub(crate) fn run(data: &[u8]) {
    let Some((choice, mut stream)) = data.split_first() else {
        return;
    };
    let bit = |bit: u8| choice & (1 << bit) != 0;
    let context = UpdateContext {
        ebgp: bit(0),
        as4: bit(1),
        mp: MpContext {
            extended_next_hop: bit(2),
            add_path: [bit(3), bit(4)],
        },
    };
    if let Ok(packet) = bfd::Packet::parse(stream) {
        assert_eq!(bfd::Packet::parse(&packet.encode()), Ok(packet));
    }
    loop {
        let (length, is_last) = match frame(stream) {
            Frame::Partial(needed) => {
                assert!(needed > stream.len() && needed <= usize::from(u16::MAX));
                // The body alone is a body, whatever its header would have said.
                body(stream.get(HEADER_LEN..).unwrap_or_default(), &context);
                return;
            }
            Frame::Message(length) => (length, false),
            Frame::Malformed(length) => (length, true),
        };
        let (message, rest) = stream.split_at(length.min(stream.len()));
        parse(message, bit(5), &context);
        if is_last {
            return;
        }
        stream = rest;
    }
}

fn parse(bytes: &[u8], extended: bool, context: &UpdateContext) {
    match Message::parse(bytes, extended) {
        Ok(Message::Open(open)) => again(&open),
        Ok(Message::Update(octets)) => body(octets, context),
        Ok(Message::Notification(notification)) => {
            let _ = (notification.to_string(), notification.text().map(str::len));
        }
        Ok(Message::Keepalive | Message::Refresh(_)) => {}
        // The answer has to be a message itself.
        Err(notification) => {
            let mut answer = Vec::new();
            notification.encode(&mut answer);
            assert!(matches!(
                Message::parse(&answer, false),
                Ok(Message::Notification(_))
            ));
        }
    }
}

fn again(open: &Open) {
    let mut bytes = Vec::new();
    open.encode(&mut bytes);
    match Message::parse(&bytes, false) {
        Ok(Message::Open(read)) => {
            assert_eq!(read.as_number, open.as_number);
            assert_eq!(read.router_id, open.router_id);
            assert_eq!(read.hold_seconds, open.hold_seconds);
            assert_eq!(read.capabilities.families, open.capabilities.families);
            assert_eq!(
                read.capabilities.graceful_restart,
                open.capabilities.graceful_restart
            );
            assert_eq!(read.capabilities.add_path, open.capabilities.add_path);
        }
        other => panic!("{open:?} was written as {bytes:02x?}, which reads as {other:?}"),
    }
}

/// The body of an UPDATE: every field is walked to its end, which has to come after no more prefixes than octets.
fn body(octets: &[u8], context: &UpdateContext) {
    let Ok(view) = UpdateView::parse(octets, context) else {
        return;
    };
    let mut count = 0;
    let reach = view.reach.iter().map(|reach| reach.nlri);
    for field in [view.withdrawn, view.announced]
        .into_iter()
        .chain(view.unreach)
        .chain(reach)
    {
        for (_, prefix) in field {
            assert_eq!(prefix, prefix.trunc());
            assert_eq!(Family::of_prefix(&prefix), field.family());
            count += 1;
        }
    }
    assert!(count <= octets.len());
    let _ = view.end_of_rib();
}
