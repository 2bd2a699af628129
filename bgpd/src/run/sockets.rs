//! What happens on sockets, as the speaker's inputs.

use std::net::SocketAddr;
use std::time::Instant;

use caracal_bgpd_core::Input;
use caracal_bgpd_core::wire::message::TYPE_UPDATE;

use super::Owner;
use crate::monitor::TYPE_AT;
use crate::transport::{Event, Opened};

impl Owner {
    /// Takes an event, and returns how many octets of messages came with it.
    pub(super) fn on_sockets(&mut self, event: Event) -> usize {
        match event {
            Event::Accepted { stream, peer } => {
                let opened = self.sockets.accept(stream, peer);
                self.opened(opened);
            }
            Event::Dialled {
                conn,
                stream,
                transport,
            } => {
                let opened = self.sockets.dialled(conn, stream, &transport);
                self.opened(opened);
            }
            Event::DialFailed { conn, reason } => {
                if self.sockets.dial_failed(conn) {
                    self.input(Input::ConnectFailed { conn, reason });
                }
            }
            Event::Messages { conn, messages } => {
                if !self.sockets.is_open(conn) {
                    return 0;
                }
                // Carried out after the batch: one decision for a prefix that changes often, full messages.
                let now = Instant::now();
                let octets = messages.iter().map(bytes::Bytes::len).sum();
                for bytes in messages {
                    self.monitor.received(conn, &bytes);
                    let is_update = bytes.get(TYPE_AT) == Some(&TYPE_UPDATE);
                    self.speaker.handle_input(now, Input::Message { conn, bytes });
                    // Who looks has to see that a session is up before its first route.
                    if !is_update && !self.monitor.is_off() {
                        self.carry_out();
                    }
                }
                return octets;
            }
            Event::SendReady { conn } => {
                if self.sockets.is_open(conn) {
                    self.input(Input::SendReady { conn });
                }
            }
            Event::Closed { conn, reason } => {
                if self.sockets.ended(conn) {
                    self.monitor.closed(conn);
                    self.input(Input::Closed { conn, reason });
                }
            }
        }
        0
    }

    fn opened(&mut self, opened: Option<Opened>) {
        if let Some(Opened {
            conn,
            peer,
            local,
            ports,
        }) = opened
        {
            let [remote_port, local_port] = ports;
            let ends = (
                SocketAddr::new(peer, remote_port),
                SocketAddr::new(local, local_port),
            );
            self.monitor.connected(conn, ends.0, ends.1);
            self.input(Input::Connected { conn, peer, local });
        }
    }

    /// Shows a session that is up to those who look.
    pub(super) fn watch_session(&mut self, name: &str) {
        if self.monitor.is_off() {
            return;
        }
        let status = self.speaker.status(Instant::now());
        if let Some(peer) = status.peers.iter().find(|peer| peer.name == name) {
            self.monitor.up(peer.address);
        }
    }
}
