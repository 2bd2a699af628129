//! Default values of the configuration: RFC 4271 §10 where it gives one.

use std::net::{IpAddr, Ipv4Addr};

use super::{Preference, Timers};
use crate::family::Family;

pub(super) fn no_address() -> IpAddr {
    Ipv4Addr::UNSPECIFIED.into()
}

pub(super) fn listen_limit() -> u32 {
    1000
}

pub(super) fn yes() -> bool {
    true
}

pub(super) fn port() -> u16 {
    179
}

pub(super) fn multipath_max() -> u8 {
    16
}

pub(super) fn deferral_seconds() -> u16 {
    120
}

pub(super) fn restart_seconds() -> u16 {
    120
}

pub(super) fn families() -> Vec<Family> {
    vec![Family::Ipv4]
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            hold_seconds: 90,
            keepalive_seconds: None,
            connect_retry_seconds: 5,
            connect_delay_seconds: 0,
            error_wait_min_seconds: 5,
            error_wait_max_seconds: 30,
            send_hold_seconds: None,
        }
    }
}

impl Default for Preference {
    fn default() -> Self {
        Self {
            bgp: 100,
            originated: 200,
            direct: 240,
            kernel: 150,
        }
    }
}
