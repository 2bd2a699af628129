//! The daemon's side: a unix socket on which plugins hand their calls over, with everything they need at hand.
//!
//! Runs in a thread and runtime of its own, so that a pod's start does not wait for what else its program does. The
//! caller must be root or the user of this process, in this network namespace, about this node; everything else is
//! refused before anything is done, and the plugin does it itself. Keeps nothing that is not in the datastore or the
//! kernel: after a kill, the plugin that waited, or the next call, finds what was done by the container's handle.

mod answer;

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use caracal_datastore::{Client, ConnectOptions};
use caracal_ipam::{Express, Ipam};
use caracal_linux::netns::NetNs;

use crate::aside::{self, Store};
use crate::board::Board;
use crate::cluster::{Cluster, Near};
use crate::mirror::Mirror;
use answer::House;

/// Calls at the same time; more wait in the socket's queue, and lose patience there.
const CALLS_MAX: usize = 128;
/// How long a thread for what waits in the kernel stays without work.
const THREADS_IDLE: Duration = Duration::from_secs(60);
/// Pause after a failure to accept a connection, as when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the service needs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen.
    pub socket: PathBuf,
    /// Name of this node.
    pub node: String,
    /// How to reach the API.
    pub connect: ConnectOptions,
    /// Whose policy is in the kernel; `None` when nobody tells.
    pub board: Option<Board>,
    /// What to set aside for the time when the API server is away; `None` = nothing.
    pub aside: Option<aside::Options>,
}

/// Why the service could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Somebody listens there.
    #[error("socket {0} is in use by another process: give each node agent a socket of its own")]
    InUse(PathBuf),
    /// The socket cannot be made.
    #[error("listen on {path}: {source}")]
    Listen {
        /// The socket.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// A thread or runtime cannot be started.
    #[error("start the service's thread: {0}")]
    Start(io::Error),
    /// The API's address or credentials cannot be used.
    #[error(transparent)]
    Connect(#[from] caracal_datastore::Error),
    /// The kernel cannot be asked.
    #[error(transparent)]
    Kernel(#[from] caracal_linux::Error),
}

/// A running service. It ends with the process; its socket goes when this is dropped.
#[derive(Debug)]
pub struct Service {
    socket: PathBuf,
}

impl Drop for Service {
    fn drop(&mut self) {
        // Plugins find out by themselves; a socket that nobody listens on only costs them a failed connect.
        let _ = fs::remove_file(&self.socket);
    }
}

impl Service {
    /// Listens, and works in a thread of its own in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When another process listens there, the socket cannot be made, or the API's address cannot be used.
    pub fn start(options: Options) -> Result<Self, Error> {
        let listener = listen(&options.socket)?;
        let host_netns = NetNs::current()?.id()?;
        let socket = options.socket.clone();
        // One thread for all that waits: waking others costs more than what they would do. What keeps a thread waiting
        // in the kernel has threads of its own.
        let runtime = tokio::runtime::Builder::new_current_thread()
            // A call needs one at a time: none waits for a thread of another.
            .max_blocking_threads(2 * CALLS_MAX)
            .thread_keep_alive(THREADS_IDLE)
            .enable_all()
            .build()
            .map_err(Error::Start)?;
        let client = runtime.block_on(Client::connect(&options.connect))?;
        std::thread::Builder::new()
            .name("cni".to_owned())
            .spawn(move || runtime.block_on(run(listener, client, options, host_netns)))
            .map_err(Error::Start)?;
        Ok(Self { socket })
    }
}

/// Binds the socket; one that nobody listens on is replaced.
fn listen(path: &Path) -> Result<UnixListener, Error> {
    let failed = |source| Error::Listen {
        path: path.to_owned(),
        source,
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(failed(io::Error::other(
                "there is a file that is no socket: remove it",
            )));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => return Err(Error::InUse(path.to_owned())),
        Ok(_) => fs::remove_file(path).map_err(failed)?,
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

async fn run(listener: UnixListener, client: Client, options: Options, host_netns: (u64, u64)) {
    let listener = match tokio::net::UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(error = %error, "the plugins' socket cannot be used");
            return;
        }
    };
    let mirror = Arc::new(Mirror::new(&options.node));
    let store = options.aside.as_ref().and_then(|aside| {
        match Store::open(aside, &options.node, options.board.clone()) {
            Ok(store) => Some(Arc::new(store)),
            Err(error) => {
                tracing::warn!(error = %error, "no addresses are set aside for the time when the API server is away");
                None
            }
        }
    });
    let house = Arc::new(House {
        node: options.node,
        host_netns,
        mirror: Arc::clone(&mirror),
        cluster: Cluster::near(Near {
            client: client.clone(),
            mirror: Arc::clone(&mirror),
            express: Express::new(Ipam::new(client.clone())),
            board: options.board,
            store: store.clone(),
            claiming: AtomicBool::new(false),
        }),
    });
    if let Some(store) = store {
        let (ipam, mirror) = (Ipam::new(client.clone()), Arc::clone(&mirror));
        tokio::spawn(async move { store.keep(&ipam, &mirror).await });
    }
    tokio::spawn(async move { mirror.follow(&client).await });
    let places = Arc::new(tokio::sync::Semaphore::new(CALLS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let house = Arc::clone(&house);
                tokio::spawn(async move {
                    if let Err(error) = answer::answer(&house, stream).await {
                        tracing::debug!(error = %error, "a plugin's connection ended early");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(error = %error, "plugins cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
