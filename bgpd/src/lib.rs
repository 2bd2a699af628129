//! The BGP daemon: sockets, watches and the kernel around bgpd-core.
//!
//! One owner loop (`run`) holds the speaker. Everything else moves bytes or routes: connections, the kernel task, the
//! watches and the control socket speak to it over bounded channels. Never interprets BGP (that is bgpd-core's) and
//! never interprets resources (that is bgpd-compile's).

pub mod bfd;
pub mod control;
pub mod kernel;
pub mod metrics;
pub mod monitor;
pub mod record;
pub mod run;
pub mod standalone;
pub mod transport;
pub mod watch;
