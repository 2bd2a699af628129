//! Listening sockets: as many as configured, with the MD5 keys of all peers.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use caracal_bgpd_core::config::{Listen, Password};
use caracal_linux::sys;
use ipnet::IpNet;
use socket2::{SockRef, Socket};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::options::{set_ttl, stream_socket};
use super::{Event, port_owner};

/// Connections that wait to be accepted; the kernel refuses more.
const BACKLOG: i32 = 128;
/// Pause when accepting fails, as it does for lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// MD5 keys by the network of the peers that have them.
pub(super) type Keys = BTreeMap<IpNet, Password>;

/// The listening sockets.
#[derive(Debug)]
pub(super) struct Listeners {
    events: mpsc::Sender<Event>,
    open: BTreeMap<Listen, Listener>,
    /// Where listening failed, and why.
    failed: BTreeMap<Listen, String>,
}

#[derive(Debug)]
struct Listener {
    /// A second handle of the socket that the task accepts from.
    socket: Socket,
    task: JoinHandle<()>,
    keys: Keys,
}

impl Listeners {
    pub(super) fn new(events: mpsc::Sender<Event>) -> Self {
        Self {
            events,
            open: BTreeMap::new(),
            failed: BTreeMap::new(),
        }
    }

    /// Listens on exactly these. What stands already is kept, with its keys brought up to date.
    pub(super) fn set(&mut self, wanted: BTreeSet<Listen>, keys: &Keys) {
        self.open.retain(|listen, listener| {
            let is_wanted = wanted.contains(listen);
            if !is_wanted {
                listener.task.abort();
            }
            is_wanted
        });
        self.failed.retain(|listen, _| wanted.contains(listen));
        for listen in wanted {
            match self.open.get_mut(&listen) {
                Some(listener) => listener.set_keys(listen, keys),
                None => self.start(listen, keys),
            }
        }
    }

    /// Tries those that failed again, and says which still do.
    pub(super) fn retry(&mut self, keys: &Keys) -> Vec<String> {
        let again: Vec<Listen> = self.failed.keys().copied().collect();
        for listen in again {
            self.start(listen, keys);
        }
        self.failed.values().cloned().collect()
    }

    fn start(&mut self, listen: Listen, keys: &Keys) {
        let address = SocketAddr::new(listen.address, listen.port);
        match Listener::open(listen, keys, self.events.clone()) {
            Ok(listener) => {
                if self.failed.remove(&listen).is_some() {
                    tracing::info!(address = %address, "listening after all");
                }
                self.open.insert(listen, listener);
            }
            Err(error) => {
                let reason = reason(address, &error);
                if self.failed.get(&listen) != Some(&reason) {
                    tracing::error!(reason = %reason, "peers cannot connect here; sessions are still dialled");
                }
                self.failed.insert(listen, reason);
            }
        }
    }
}

impl Listener {
    fn open(listen: Listen, keys: &Keys, events: mpsc::Sender<Event>) -> io::Result<Self> {
        let socket = stream_socket(listen.address)?;
        socket.set_reuse_address(true)?;
        // A peer that checks the TTL (RFC 5082) checks it from the first answer on.
        set_ttl(&SockRef::from(&socket), listen.address, u8::MAX)?;
        socket.bind(&SocketAddr::new(listen.address, listen.port).into())?;
        // An accepted socket gets its own least TTL, but what came before is in its queue by then: the first packet
        // tells whether there was a router on the way.
        if let Err(error) = sys::save_syn(&socket) {
            tracing::warn!(error = %error, "TTL security begins a moment after a connection does");
        }
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from_std(socket.try_clone()?.into())?;
        let mut this = Self {
            socket,
            task: tokio::spawn(accept(listener, events)),
            keys: BTreeMap::new(),
        };
        this.set_keys(listen, keys);
        Ok(this)
    }

    /// Sets the keys that are new or changed, removes those that are gone.
    fn set_keys(&mut self, listen: Listen, keys: &Keys) {
        let wanted: Keys = keys
            .iter()
            .filter(|(network, _)| network.addr().is_ipv4() == listen.address.is_ipv4())
            .map(|(network, key)| (*network, key.clone()))
            .collect();
        for network in self.keys.keys().filter(|network| !wanted.contains_key(*network)) {
            set_key(&self.socket, *network, "");
        }
        for (network, key) in wanted
            .iter()
            .filter(|(network, key)| self.keys.get(*network) != Some(*key))
        {
            set_key(&self.socket, *network, key.reveal());
        }
        self.keys = wanted;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn set_key(socket: &Socket, network: IpNet, key: &str) {
    let is_one = network.prefix_len() == network.max_prefix_len();
    let result = if is_one {
        sys::set_tcp_md5(socket, network.addr(), key.as_bytes())
    } else {
        sys::set_tcp_md5_of_network(socket, network, key.as_bytes())
    };
    match result {
        Ok(()) => {}
        Err(error) if key.is_empty() && error.is_not_found() => {}
        Err(error) => tracing::error!(peer = %network, error = %error, "this peer cannot connect"),
    }
}

async fn accept(listener: TcpListener, events: mpsc::Sender<Event>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                if events.send(Event::Accepted { stream, peer }).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(error = %error, "accepting a connection failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn reason(address: SocketAddr, error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => match port_owner::find(address.port()) {
            Some(owner) => format!("; the port is taken by {owner}: stop it or set another listenPort"),
            None => "; the port is taken by another program: stop it or set another listenPort".to_owned(),
        },
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need CAP_NET_BIND_SERVICE, or set another listenPort".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => "; the address is not on this host".to_owned(),
        _ => String::new(),
    };
    format!("listen on {address}: {error}{hint}")
}
