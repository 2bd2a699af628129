//! TCP: listening, dialling, and byte pumps between sockets and the speaker.
//!
//! Owns every socket of the speaker. Bytes are cut into messages here and judged by the core. Every queue is bounded:
//! a connection whose messages are not taken waits, one that does not read is reported as blocked, and one that is far
//! behind is closed. Sources: RFC 4271 §8.2.1 (connections), RFC 5082 (TTL), RFC 2385 (MD5).

mod connection;
mod connector;
mod listener;
mod options;
mod port_owner;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use caracal_bgpd_core::config::Listen;
use caracal_bgpd_core::input::ConnId;
use caracal_bgpd_core::output::Transport;
use ipnet::IpNet;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use connection::Connection;
use listener::{Keys, Listeners};

/// Events waiting for the owner.
const EVENTS_MAX: usize = 256;

/// What happened on a socket.
#[derive(Debug)]
pub enum Event {
    /// A stranger or a peer connected to a listener.
    Accepted {
        /// The connection.
        stream: TcpStream,
        /// Who.
        peer: SocketAddr,
    },
    /// A dialled connection stands.
    Dialled {
        /// Which.
        conn: ConnId,
        /// The connection.
        stream: TcpStream,
        /// Options of its peer.
        transport: Box<Transport>,
    },
    /// A dialled connection did not come about.
    DialFailed {
        /// Which.
        conn: ConnId,
        /// Why.
        reason: String,
    },
    /// Whole messages, in order.
    Messages {
        /// From where.
        conn: ConnId,
        /// The messages.
        messages: Vec<Bytes>,
    },
    /// The send queue has room again.
    SendReady {
        /// Of which connection.
        conn: ConnId,
    },
    /// The connection is over.
    Closed {
        /// Which.
        conn: ConnId,
        /// Why.
        reason: String,
    },
}

/// A connection that is ready for the speaker.
#[derive(Debug)]
pub struct Opened {
    /// Its name.
    pub conn: ConnId,
    /// The other end.
    pub peer: IpAddr,
    /// This end.
    pub local: IpAddr,
    /// Port of the other end, and of this.
    pub ports: [u16; 2],
}

/// What became of octets to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queued {
    /// They are on their way.
    Yes,
    /// They are on their way, and the queue is full: send no more until it is ready.
    Full,
    /// There is no such connection (any more).
    Gone,
    /// The peer is too far behind; the connection was closed.
    TooMuch,
}

/// All sockets of a speaker.
#[derive(Debug)]
pub struct Sockets {
    events: mpsc::Sender<Event>,
    listeners: Listeners,
    peers: BTreeMap<IpAddr, Transport>,
    /// Options of peers that are known by the network they connect from.
    ranges: Vec<(IpNet, Transport)>,
    connections: BTreeMap<ConnId, Connection>,
    dialling: BTreeMap<ConnId, JoinHandle<()>>,
    next_inbound: u64,
}

impl Sockets {
    /// No socket yet, and the stream of what will happen on them.
    pub fn new() -> (Self, mpsc::Receiver<Event>) {
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let sockets = Self {
            listeners: Listeners::new(events.clone()),
            events,
            peers: BTreeMap::new(),
            ranges: Vec::new(),
            connections: BTreeMap::new(),
            dialling: BTreeMap::new(),
            next_inbound: 0,
        };
        (sockets, receiver)
    }

    /// Listens on exactly these, for exactly these peers. A key that changed is changed on connections that stand.
    pub fn listen(&mut self, listen: Vec<Listen>, peers: Vec<Transport>, ranges: Vec<(IpNet, Transport)>) {
        self.peers = peers
            .into_iter()
            .map(|peer| (peer.address.to_canonical(), peer))
            .collect();
        self.ranges = ranges;
        for connection in self.connections.values_mut() {
            let transport = options_of(&self.peers, &self.ranges, connection.peer());
            connection.set_key(transport.and_then(|transport| transport.md5));
        }
        let keys = keys(&self.peers, &self.ranges);
        self.listeners.set(listen.into_iter().collect(), &keys);
    }

    /// Tries again to listen where it failed before. Says what fails, for health and log.
    pub fn retry_listen(&mut self) -> Vec<String> {
        self.listeners.retry(&keys(&self.peers, &self.ranges))
    }

    /// Dials; the answer is an event.
    pub fn connect(&mut self, conn: ConnId, port: u16, transport: Transport) {
        let task = connector::dial(conn, port, transport, self.events.clone());
        self.dialling.insert(conn, task);
    }

    /// Takes a connection that was accepted. Strangers are turned away here: nothing of them reaches the speaker.
    pub fn accept(&mut self, stream: TcpStream, peer: SocketAddr) -> Option<Opened> {
        let address = peer.ip().to_canonical();
        let Some(transport) = options_of(&self.peers, &self.ranges, address) else {
            tracing::debug!(peer = %peer, "connection from an address that is no peer, closed");
            return None;
        };
        if let Err(error) = options::set_established(&stream, &transport) {
            tracing::warn!(peer = %peer, error = %error, "options of a connection could not be set, closed");
            return None;
        }
        if let Some((ttl, least)) = options::came_from_afar(&stream, &transport) {
            tracing::warn!(
                peer = %peer,
                ttl,
                least,
                "connection from farther away than ttlSecurity allows, closed; is the peer set up for TTL security?"
            );
            return None;
        }
        let conn = ConnId::Inbound(self.next_inbound);
        self.next_inbound += 1;
        self.start(conn, stream, &transport)
    }

    /// Takes a connection that was dialled; `None` when the speaker has closed it meanwhile.
    pub fn dialled(&mut self, conn: ConnId, stream: TcpStream, transport: &Transport) -> Option<Opened> {
        self.dialling.remove(&conn)?;
        if let Err(error) = options::set_established(&stream, transport) {
            tracing::warn!(peer = %transport.address, error = %error, "options of a connection could not be set");
        }
        self.start(conn, stream, transport)
    }

    /// Notes that dialling failed; false when the speaker has given it up meanwhile.
    pub fn dial_failed(&mut self, conn: ConnId) -> bool {
        self.dialling.remove(&conn).is_some()
    }

    fn start(&mut self, conn: ConnId, stream: TcpStream, transport: &Transport) -> Option<Opened> {
        let (Ok(peer), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else {
            // It was reset before we looked.
            return None;
        };
        let ports = [peer.port(), local.port()];
        let (peer, local) = (peer.ip().to_canonical(), local.ip().to_canonical());
        let key = transport.md5.clone();
        let connection = Connection::start(conn, stream, (peer, key), self.events.clone());
        self.connections.insert(conn, connection);
        Some(Opened {
            conn,
            peer,
            local,
            ports,
        })
    }

    /// Queues octets to send.
    pub fn send(&mut self, conn: ConnId, bytes: Bytes) -> Queued {
        let Some(connection) = self.connections.get_mut(&conn) else {
            return Queued::Gone;
        };
        let queued = connection.send(bytes);
        if queued == Queued::TooMuch {
            self.connections.remove(&conn);
        }
        queued
    }

    /// Closes after what was queued before.
    pub fn close(&mut self, conn: ConnId) {
        if let Some(task) = self.dialling.remove(&conn) {
            task.abort();
        }
        if let Some(connection) = self.connections.remove(&conn) {
            connection.close();
        }
    }

    /// Whether events of this connection still count.
    pub fn is_open(&self, conn: ConnId) -> bool {
        self.connections.contains_key(&conn)
    }

    /// Forgets a connection that ended by itself; false when it was closed before.
    pub fn ended(&mut self, conn: ConnId) -> bool {
        self.connections.remove(&conn).is_some()
    }

    /// Connections that stand.
    pub fn open_connections(&self) -> BTreeSet<ConnId> {
        self.connections.keys().copied().collect()
    }
}

/// What connections with an address need: those of the peer that has it, else of the narrowest network around it.
fn options_of(
    peers: &BTreeMap<IpAddr, Transport>,
    ranges: &[(IpNet, Transport)],
    address: IpAddr,
) -> Option<Transport> {
    if let Some(peer) = peers.get(&address) {
        return Some(peer.clone());
    }
    let around = ranges.iter().filter(|(network, _)| network.contains(&address));
    let (_, transport) = around.max_by_key(|(network, _)| network.prefix_len())?;
    Some(Transport {
        address,
        ..transport.clone()
    })
}

/// The MD5 keys for listeners, by network.
fn keys(peers: &BTreeMap<IpAddr, Transport>, ranges: &[(IpNet, Transport)]) -> Keys {
    let peers = peers
        .iter()
        .map(|(address, transport)| (IpNet::from(*address), transport));
    let ranges = ranges.iter().map(|(network, transport)| (*network, transport));
    ranges
        .chain(peers)
        .filter_map(|(network, transport)| Some((network, transport.md5.clone()?)))
        .collect()
}

impl Drop for Sockets {
    fn drop(&mut self) {
        for task in self.dialling.values() {
            task.abort();
        }
    }
}
