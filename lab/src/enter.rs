//! Working inside a machine or a pod: entering its namespaces on a thread of its own.
//!
//! A thread enters, never the process: what it starts inherits the thread's namespaces, and nothing else changes
//! place. Source: `setns(2)`, `unshare(2)`, and what `ip netns exec` does about `/sys`.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use crate::error::{Error, Result};

/// Where something runs.
#[derive(Debug)]
pub enum Place {
    /// The namespaces of a running process: a machine, through its anchor.
    Machine(Namespaces),
    /// A network namespace with the host's file system: a pod.
    Pod {
        /// The pod's network namespace.
        net: File,
        /// The pod's host name.
        hostname: String,
    },
}

/// The namespaces that make a machine.
#[derive(Debug)]
pub struct Namespaces {
    net: File,
    uts: File,
    mount: File,
}

impl Namespaces {
    /// Those of a process.
    ///
    /// # Errors
    /// The process is gone.
    pub fn of_process(pid: u32) -> Result<Self> {
        let open = |kind: &str| {
            let path = format!("/proc/{pid}/ns/{kind}");
            File::open(&path).map_err(|e| Error::io(format!("open {path}"), e))
        };
        Ok(Self {
            net: open("net")?,
            uts: open("uts")?,
            mount: open("mnt")?,
        })
    }
}

impl Place {
    /// A pod's place, by a path to its network namespace.
    ///
    /// # Errors
    /// The path cannot be opened.
    pub fn pod(netns: &PathBuf, hostname: impl Into<String>) -> Result<Self> {
        let net = File::open(netns).map_err(|e| Error::io(format!("open {}", netns.display()), e))?;
        Ok(Self::Pod {
            net,
            hostname: hostname.into(),
        })
    }

    /// Moves the calling thread there, for good.
    ///
    /// # Errors
    /// A namespace cannot be entered, mostly for lack of root.
    pub fn enter(&self) -> Result<()> {
        // Mount namespaces can only be changed by a task that shares its root and working directory with nobody.
        unshare(CloneFlags::CLONE_FS).map_err(|e| Error::errno("leave the shared file system state", e))?;
        match self {
            Self::Machine(namespaces) => {
                join(&namespaces.net, CloneFlags::CLONE_NEWNET, "network")?;
                join(&namespaces.uts, CloneFlags::CLONE_NEWUTS, "host name")?;
                join(&namespaces.mount, CloneFlags::CLONE_NEWNS, "mount")
            }
            Self::Pod { net, hostname } => {
                join(net, CloneFlags::CLONE_NEWNET, "network")?;
                own_file_system_and_name(hostname)
            }
        }
    }

    /// Enters the network namespace only, on a thread of its own, and runs a function there.
    ///
    /// # Errors
    /// The namespace cannot be entered, or the function panicked.
    pub fn run_in_network<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        let net = self.network_file();
        on_own_thread(|| {
            join(net, CloneFlags::CLONE_NEWNET, "network")?;
            Ok(f())
        })?
    }

    /// The network namespace of the place.
    pub(crate) fn network_file(&self) -> &File {
        match self {
            Self::Machine(namespaces) => &namespaces.net,
            Self::Pod { net, .. } => net,
        }
    }

    /// Runs a function there, on a thread of its own, and waits for it.
    ///
    /// # Errors
    /// As [`Place::enter`], or the function panicked.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        on_own_thread(|| {
            self.enter()?;
            Ok(f())
        })?
    }
}

/// Gives the calling thread a mount namespace whose `/sys` shows its network, and a host name of its own.
///
/// # Errors
/// The kernel refuses new namespaces.
pub(crate) fn own_file_system_and_name(hostname: &str) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS)
        .map_err(|e| Error::errno("make mount and host name namespaces", e))?;
    // Mounts of the host go on appearing here; ours never appear there.
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_SLAVE | MsFlags::MS_REC,
        None::<&str>,
    )
    .map_err(|e| Error::errno("separate the mount namespace", e))?;
    // A sandbox may forbid it; then programs that read /sys/class/net see the host's devices, and nothing else.
    let _ = mount(
        Some("sysfs"),
        "/sys",
        Some("sysfs"),
        MsFlags::empty(),
        None::<&str>,
    );
    nix::unistd::sethostname(hostname).map_err(|e| Error::errno("set the host name", e))
}

fn join(namespace: &File, kind: CloneFlags, name: &str) -> Result<()> {
    setns(namespace.as_fd(), kind).map_err(|e| Error::errno(format!("enter the {name} namespace"), e))
}

/// Runs a function on a thread of its own, whose namespaces it may change.
pub(crate) fn on_own_thread<T: Send>(f: impl FnOnce() -> T + Send) -> Result<T> {
    thread::scope(|scope| {
        let handle = thread::Builder::new()
            .name("enter".to_owned())
            .spawn_scoped(scope, f)
            .map_err(|e| Error::io("start a thread", e))?;
        handle.join().map_err(|_| {
            Error::io(
                "work inside a namespace",
                std::io::Error::other("the thread panicked"),
            )
        })
    })
}
