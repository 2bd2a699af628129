//! Follows connections until they are sessions, and tells the writers what happens on these.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use bytes::Bytes;
use caracal_bgpd_core::input::ConnId;
use caracal_bgpd_core::wire::encode::{self, PathRoute, Route as _};
use caracal_bgpd_core::wire::framing::{HEADER_LEN, MESSAGE_LEN_MAX};
use caracal_bgpd_core::wire::message::{TYPE_NOTIFICATION, TYPE_OPEN, TYPE_UPDATE};
use caracal_bgpd_core::wire::mp::MpContext;
use caracal_bgpd_core::wire::open::Open;
use caracal_bgpd_core::wire::update::{UpdateContext, UpdateView};
use caracal_bgpd_core::{Family, Speaker};

use super::bmp;
use super::mrt;
use super::station::Station;

/// Offset of the type in a message.
pub const TYPE_AT: usize = 18;

/// The other end of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address and port.
    pub remote: SocketAddr,
    /// Own address and port.
    pub local: SocketAddr,
    /// Its AS number.
    pub remote_as: u32,
    /// Own AS number towards it.
    pub local_as: u32,
    /// Its BGP identifier.
    pub router_id: std::net::Ipv4Addr,
    /// AS numbers in its messages take four octets.
    pub as4: bool,
    /// Path identifiers come with IPv4, with IPv6.
    pub add_path: [bool; 2],
}

/// A session that is up.
#[derive(Clone, Debug)]
pub struct Session {
    /// The other end.
    pub peer: Peer,
    /// The OPEN sent.
    pub sent_open: Bytes,
    /// The OPEN received.
    pub received_open: Bytes,
    context: UpdateContext,
}

#[derive(Clone, Debug)]
struct Conn {
    remote: SocketAddr,
    local: SocketAddr,
    sent_open: Option<Bytes>,
    received_open: Option<Bytes>,
    session: Option<Session>,
    notification: Option<(bmp::Side, Bytes)>,
}

/// All that look.
#[derive(Debug, Default)]
pub struct Monitor {
    conns: BTreeMap<ConnId, Conn>,
    station: Option<Station>,
    updates: Option<mrt::Writer>,
}

impl Monitor {
    /// One that shows to these; to nobody, it does nothing.
    #[must_use]
    pub fn new(station: Option<Station>, updates: Option<mrt::Writer>) -> Self {
        Self {
            conns: BTreeMap::new(),
            station,
            updates,
        }
    }

    /// Whether nobody looks.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.station.is_none() && self.updates.is_none()
    }

    /// A connection stands.
    pub fn connected(&mut self, conn: ConnId, remote: SocketAddr, local: SocketAddr) {
        if self.is_off() {
            return;
        }
        let new = Conn {
            remote,
            local,
            sent_open: None,
            received_open: None,
            session: None,
            notification: None,
        };
        self.conns.insert(conn, new);
    }

    /// Octets go out: one or more messages.
    pub fn sent(&mut self, conn: ConnId, bytes: &Bytes) {
        let Some(conn) = self.conns.get_mut(&conn) else {
            return;
        };
        match bytes.get(TYPE_AT) {
            Some(&TYPE_OPEN) => conn.sent_open = Some(bytes.clone()),
            Some(&TYPE_NOTIFICATION) => conn.notification = Some((bmp::Side::Local, bytes.clone())),
            _ => {}
        }
    }

    /// A message came, and the speaker has not seen it yet.
    pub fn received(&mut self, id: ConnId, bytes: &Bytes) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        match bytes.get(TYPE_AT) {
            Some(&TYPE_OPEN) => conn.received_open = Some(bytes.clone()),
            Some(&TYPE_NOTIFICATION) => conn.notification = Some((bmp::Side::Remote, bytes.clone())),
            Some(&TYPE_UPDATE) => {
                if let Some(session) = &conn.session {
                    let now = SystemTime::now();
                    if let Some(writer) = &mut self.updates {
                        writer.message(now, &session.peer, bytes);
                    }
                    if let Some(station) = &mut self.station {
                        for message in accepted(session, bytes) {
                            station.send(bmp::route_monitoring(now, &session.peer, &message));
                        }
                    }
                }
            }
            _ => {}
        }
    }

    /// The session with an address is up.
    pub fn up(&mut self, address: IpAddr) {
        let of = |conn: &&mut Conn| conn.remote.ip() == address && conn.session.is_none();
        let mut conns = self.conns.values_mut().filter(of);
        let Some((conn, session)) = conns.find_map(|conn| {
            let session = session(conn)?;
            Some((conn, session))
        }) else {
            return;
        };
        let now = SystemTime::now();
        if let Some(station) = &mut self.station {
            station.send(bmp::peer_up(now, &session));
        }
        if let Some(writer) = &mut self.updates {
            writer.state(now, &session.peer, mrt::OPEN_CONFIRM, mrt::ESTABLISHED);
        }
        conn.session = Some(session);
    }

    /// A connection is over, from either side.
    pub fn closed(&mut self, conn: ConnId) {
        let Some(conn) = self.conns.remove(&conn) else {
            return;
        };
        let Some(session) = conn.session else { return };
        let now = SystemTime::now();
        if let Some(station) = &mut self.station {
            station.send(bmp::peer_down(now, &session.peer, conn.notification.as_ref()));
        }
        if let Some(writer) = &mut self.updates {
            writer.state(now, &session.peer, mrt::ESTABLISHED, mrt::IDLE);
        }
    }

    /// What is due: a station that has just been reached gets all that there is.
    pub fn tick(&mut self, speaker: &Speaker) {
        let Some(station) = self.station.as_mut().filter(|station| station.is_new()) else {
            return;
        };
        let now = SystemTime::now();
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        station.send(bmp::initiation(name.trim()));
        let sessions: Vec<&Session> = self
            .conns
            .values()
            .filter_map(|conn| conn.session.as_ref())
            .collect();
        for session in &sessions {
            station.send(bmp::peer_up(now, session));
        }
        let names: BTreeMap<String, &Session> = speaker
            .status(std::time::Instant::now())
            .peers
            .into_iter()
            .filter_map(|peer| {
                let of = |session: &&&Session| session.peer.remote.ip() == peer.address;
                Some((peer.name, *sessions.iter().find(of)?))
            })
            .collect();
        speaker.visit_received(|prefix, paths| {
            for path in paths {
                let (Some(session), Some(next_hop)) = (names.get(path.peer), path.next_hop) else {
                    continue;
                };
                let family = Family::of_prefix(&prefix);
                let [v4, v6] = session.peer.add_path;
                let with_id = if family == Family::Ipv4 { v4 } else { v6 };
                // The attributes have four-octet AS numbers here, whatever the session has.
                let peer = Peer {
                    as4: true,
                    ..session.peer.clone()
                };
                let emit = |bytes: &[u8], _: usize| station.send(bmp::route_monitoring(now, &peer, bytes));
                let limit = MESSAGE_LEN_MAX;
                let route = PathRoute::of(prefix, with_id.then_some(path.path_id));
                encode::announce(family, path.attributes, next_hop, &[route], limit, emit);
            }
        });
        for session in sessions {
            for family in Family::ALL {
                let mut bytes = Vec::new();
                encode::end_of_rib(family, &mut bytes);
                station.send(bmp::route_monitoring(now, &session.peer, &bytes));
            }
        }
    }

    /// The sessions that are up, by the address of the other end.
    #[must_use]
    pub fn sessions(&self) -> Vec<Peer> {
        let sessions = self.conns.values().filter_map(|conn| conn.session.as_ref());
        sessions.map(|session| session.peer.clone()).collect()
    }
}

/// What two OPENs make of a connection.
fn session(conn: &Conn) -> Option<Session> {
    let (sent_open, received_open) = (conn.sent_open.clone()?, conn.received_open.clone()?);
    // The first message is the OPEN; a KEEPALIVE may follow in the same octets.
    let length = usize::from(u16::from_be_bytes([*sent_open.get(16)?, *sent_open.get(17)?]));
    let sent_open = sent_open.slice(..length.min(sent_open.len()));
    let mine = Open::parse(sent_open.get(HEADER_LEN..)?).ok()?;
    let theirs = Open::parse(received_open.get(HEADER_LEN..)?).ok()?;
    // RFC 7911 §4: 1 is able to receive, 2 to send.
    let receives = |family| {
        let has = |open: &Open, bit: u8| {
            let mut list = open.capabilities.add_path.iter();
            list.any(|(of, mode)| *of == family && mode & bit != 0)
        };
        has(&mine, 1) && has(&theirs, 2)
    };
    let add_path = Family::ALL.map(receives);
    let as4 = theirs.capabilities.as4.is_some();
    let extended_next_hop = mine.capabilities.extended_next_hop && theirs.capabilities.extended_next_hop;
    Some(Session {
        peer: Peer {
            remote: conn.remote,
            local: conn.local,
            remote_as: theirs.as_number,
            local_as: mine.as_number,
            router_id: theirs.router_id,
            as4,
            add_path,
        },
        sent_open,
        received_open,
        context: UpdateContext {
            ebgp: mine.as_number != theirs.as_number,
            as4,
            mp: MpContext {
                extended_next_hop,
                add_path,
            },
        },
    })
}

/// An UPDATE as the speaker takes it: itself, or the withdrawal of its routes, or nothing when it ends the session.
fn accepted(session: &Session, bytes: &Bytes) -> Vec<Bytes> {
    let body = bytes.get(HEADER_LEN..).unwrap_or_default();
    let Ok(view) = UpdateView::parse(body, &session.context) else {
        return Vec::new();
    };
    if view.fault.is_none() {
        return vec![bytes.clone()];
    }
    let reach = view.reach.map(|reach| reach.nlri);
    let fields = [Some(view.withdrawn), Some(view.announced), view.unreach, reach];
    let mut messages = Vec::new();
    for field in fields.into_iter().flatten().filter(|field| !field.is_empty()) {
        let family = field.family();
        let [v4, v6] = session.peer.add_path;
        let with_id = if family == Family::Ipv4 { v4 } else { v6 };
        let limit = MESSAGE_LEN_MAX;
        let emit = |bytes: &[u8], _: usize| messages.push(Bytes::copy_from_slice(bytes));
        let route = |(path_id, prefix)| PathRoute::of(prefix, with_id.then_some(path_id));
        let routes: Vec<PathRoute> = field.map(route).collect();
        encode::withdraw(family, &routes, limit, emit);
    }
    messages
}
