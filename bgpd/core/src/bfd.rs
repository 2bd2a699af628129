//! Bidirectional Forwarding Detection (RFC 5880; 5881 for one hop, 5883 for several), asynchronous mode: is the other
//! end still there, asked several times a second.
//!
//! [`Session`] is the state machine of one neighbour: packets and time in, packets and state changes out. It never
//! touches a socket or a clock; where packets come from, which TTL they need and what a lost neighbour means to BGP is
//! its user's business. Authentication, demand mode and the echo function are not there: RFC 5880 §6.2 leaves them
//! out of what every implementation has to do, and the daemons at the top of a rack do without.

mod packet;
mod session;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use packet::{Diagnostic, PACKET_LEN, Packet, PacketError, State};
pub use session::{Output, Session};

/// UDP port of neighbours one hop away (RFC 5881 §4).
pub const PORT_SINGLE_HOP: u16 = 3784;
/// UDP port of neighbours several hops away (RFC 5883 §5).
pub const PORT_MULTIHOP: u16 = 4784;
/// TTL or hop limit of packets that have crossed no router (RFC 5881 §5).
pub const TTL: u8 = 255;

/// How far away the neighbour is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// On the same link. Packets that crossed a router are dropped.
    #[default]
    SingleHop,
    /// Behind routers.
    Multihop,
    /// Single hop when the peer's address is on a connected network; otherwise there is no BFD.
    IfDirect,
}

/// What one end of a session wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// How far away the neighbour is.
    pub mode: Mode,
    /// Shortest interval at which packets are taken (Required Min RX Interval).
    pub receive_millis: u32,
    /// Shortest interval at which packets are sent while the session is up (Desired Min TX Interval).
    pub transmit_millis: u32,
    /// Packets that the other end may miss before it gives up (Detect Mult).
    pub multiplier: u8,
}

impl Default for Settings {
    /// Three packets at 300 ms, as FRR and MetalLB have it.
    fn default() -> Self {
        Self {
            mode: Mode::SingleHop,
            receive_millis: 300,
            transmit_millis: 300,
            multiplier: 3,
        }
    }
}

impl Settings {
    fn receive(&self) -> Duration {
        Duration::from_millis(u64::from(self.receive_millis))
    }

    fn transmit(&self) -> Duration {
        Duration::from_millis(u64::from(self.transmit_millis))
    }
}

/// A session for people (serde, camelCase).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Its state here.
    pub state: State,
    /// The state that the neighbour last said it is in.
    pub remote_state: State,
    /// Seconds in this state.
    pub state_seconds: u64,
    /// Why it last left the state Up.
    pub diagnostic: Diagnostic,
    /// Interval of packets sent.
    pub transmit_millis: u64,
    /// Time without a packet after which the neighbour counts as gone; 0 while nothing is known of it.
    pub detect_millis: u64,
    /// Times it went up.
    pub up_count: u64,
    /// Times it went down from up.
    pub down_count: u64,
    /// Packets taken.
    pub packets_in: u64,
    /// Packets sent.
    pub packets_out: u64,
    /// Why there is no session at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}
