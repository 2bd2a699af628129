//! Network namespaces: make, name, open, enter by thread, start programs inside.
//!
//! A thread enters, never a process and never a runtime worker: [`NetNs::run`] starts a thread of its own, so nothing
//! outlives the call in the wrong namespace. Sockets opened on that thread belong to the namespace for ever.
//! Source: `setns(2)`, `network_namespaces(7)`; names under `/run/netns` are iproute2's convention.

use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::{Error, Result};

/// Where iproute2 keeps named namespaces.
pub const NAMED_DIR: &str = "/run/netns";

const THREAD_SELF: &str = "/proc/thread-self/ns/net";

/// An open network namespace. It lives at least as long as this value.
#[derive(Debug)]
pub struct NetNs {
    file: File,
    path: Option<PathBuf>,
}

impl NetNs {
    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// When `/proc` is not mounted.
    pub fn current() -> Result<Self> {
        Ok(Self {
            file: open_file(Path::new(THREAD_SELF))?,
            path: None,
        })
    }

    /// The namespace at a path: `/run/netns/NAME`, `/proc/PID/ns/net`.
    ///
    /// # Errors
    /// `is_not_found` when there is no such file; `Invalid` when the file is not a network namespace.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let netns = Self {
            file: open_file(path)?,
            path: Some(path.to_owned()),
        };
        // Only the namespace file system answers this; a plain file left behind by a crash would fail much later.
        netns.check_is_netns(path)?;
        Ok(netns)
    }

    /// The namespace behind a descriptor that another process opened.
    ///
    /// # Errors
    /// `Invalid` when it is not one of a network namespace.
    pub fn from_fd(fd: OwnedFd) -> Result<Self> {
        let netns = Self {
            file: File::from(fd),
            path: None,
        };
        netns.check_is_netns(Path::new("received descriptor"))?;
        Ok(netns)
    }

    /// The namespace with a name under `/run/netns`.
    ///
    /// # Errors
    /// As [`NetNs::open`].
    pub fn open_named(name: &str) -> Result<Self> {
        Self::open(named_path(name)?)
    }

    /// A new namespace that has no name and vanishes with its last descriptor, process or device.
    ///
    /// # Errors
    /// `is_permission` without CAP_SYS_ADMIN.
    pub fn create_anonymous() -> Result<Self> {
        let file = on_own_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|e| Error::kernel("make a network namespace", e as i32))?;
            open_file(Path::new(THREAD_SELF))
        })??;
        Ok(Self { file, path: None })
    }

    /// A new namespace with a name under `/run/netns`, visible to `ip netns`.
    ///
    /// # Errors
    /// `is_exists` when the name is taken.
    pub fn create_named(name: &str) -> Result<Self> {
        ensure_named_dir()?;
        Self::create_at(named_path(name)?)
    }

    /// A new namespace bound to a path, which must not exist; its directory must.
    ///
    /// # Errors
    /// `is_exists` when the path is taken. Nothing is left behind on failure.
    pub fn create_at(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|e| Error::io(format!("create {}", path.display()), e))?;
        let target = path.clone();
        let bound = on_own_thread(move || -> Result<()> {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|e| Error::kernel("make a network namespace", e as i32))?;
            mount(
                Some(THREAD_SELF),
                &target,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )
            .map_err(|e| Error::kernel(format!("bind the namespace to {}", target.display()), e as i32))
        })
        .and_then(|result| result);
        if let Err(error) = bound {
            // The error that matters is the first; an empty file left over would block the name.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        Self::open(&path)
    }

    /// The path it was opened or made at, if any.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Device and inode number: two values are the same namespace exactly when these agree.
    ///
    /// # Errors
    /// Never in practice; the descriptor is open.
    pub fn id(&self) -> Result<(u64, u64)> {
        let meta = self
            .file
            .metadata()
            .map_err(|e| Error::io("look at the namespace", e))?;
        Ok((meta.dev(), meta.ino()))
    }

    /// Runs a function on a thread inside this namespace and waits for it.
    ///
    /// # Errors
    /// When the namespace cannot be entered (then the function was not called) or the function panicked.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        let fd = self.file.as_fd();
        on_own_thread(move || {
            enter(fd)?;
            Ok(f())
        })?
    }

    /// Starts a program inside this namespace. Only the network namespace changes; file systems stay.
    ///
    /// # Errors
    /// When the namespace cannot be entered or the program cannot be started.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        let what = format!("start {}", command.get_program().to_string_lossy());
        self.run(|| command.spawn())?.map_err(|e| Error::io(what, e))
    }

    /// Runs a program inside this namespace to its end and collects its output.
    ///
    /// # Errors
    /// As [`NetNs::spawn`].
    pub fn output(&self, command: &mut Command) -> Result<std::process::Output> {
        let what = format!("run {}", command.get_program().to_string_lossy());
        self.run(|| command.output())?.map_err(|e| Error::io(what, e))
    }

    fn check_is_netns(&self, path: &Path) -> Result<()> {
        let stat = nix::sys::statfs::fstatfs(&self.file)
            .map_err(|e| Error::kernel(format!("look at {}", path.display()), e as i32))?;
        let kind = stat.filesystem_type();
        if kind == nix::sys::statfs::NSFS_MAGIC || kind == nix::sys::statfs::PROC_SUPER_MAGIC {
            return Ok(());
        }
        Err(Error::invalid(
            format!("network namespace {}", path.display()),
            "is a plain file, not a namespace (left over from a crash? remove it)",
        ))
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for NetNs {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

/// Removes the name of a namespace under `/run/netns`. A name that is not there is success.
///
/// The namespace itself ends when nothing uses it any more.
///
/// # Errors
/// When the name cannot be removed.
pub fn delete_named(name: &str) -> Result<()> {
    delete_at(named_path(name)?)
}

/// Removes the binding of a namespace made by [`NetNs::create_at`]. A missing path is success.
///
/// # Errors
/// When the path cannot be unmounted or removed.
pub fn delete_at(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    match umount2(path, MntFlags::MNT_DETACH) {
        // EINVAL: not a mount point, a plain file left behind.
        Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => {}
        Err(errno) => return Err(Error::kernel(format!("unmount {}", path.display()), errno as i32)),
    }
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(format!("remove {}", path.display()), e))
        }
        _ => Ok(()),
    }
}

/// Names under `/run/netns`, sorted.
///
/// # Errors
/// When the directory cannot be read; a missing one is an empty list.
pub fn list_named() -> Result<Vec<String>> {
    let entries = match fs::read_dir(NAMED_DIR) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io(format!("list {NAMED_DIR}"), e)),
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    Ok(names)
}

fn named_path(name: &str) -> Result<PathBuf> {
    if name.is_empty() || name == "." || name == ".." || name.contains('/') || name.len() > 255 {
        return Err(Error::invalid(
            format!("network namespace name {name:?}"),
            "must be a file name: 1 to 255 bytes, no slash",
        ));
    }
    Ok(Path::new(NAMED_DIR).join(name))
}

/// Makes `/run/netns` a shared mount, as iproute2 does, so that names appear in (and leave) every mount namespace.
fn ensure_named_dir() -> Result<()> {
    let dir = Path::new(NAMED_DIR);
    fs::create_dir_all(dir).map_err(|e| Error::io(format!("create {NAMED_DIR}"), e))?;
    let share = || {
        mount(
            None::<&str>,
            dir,
            None::<&str>,
            MsFlags::MS_SHARED | MsFlags::MS_REC,
            None::<&str>,
        )
    };
    if share().is_ok() {
        return Ok(());
    }
    let failed = |errno| Error::kernel(format!("make {NAMED_DIR} a mount point"), errno as i32);
    mount(
        Some(dir),
        dir,
        None::<&str>,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        None::<&str>,
    )
    .map_err(failed)?;
    share().map_err(failed)
}

fn open_file(path: &Path) -> Result<File> {
    File::open(path).map_err(|e| Error::io(format!("open network namespace {}", path.display()), e))
}

fn enter(fd: BorrowedFd<'_>) -> Result<()> {
    setns(fd, CloneFlags::CLONE_NEWNET).map_err(|e| Error::kernel("enter the network namespace", e as i32))
}

fn on_own_thread<T: Send>(f: impl FnOnce() -> T + Send) -> Result<T> {
    thread::scope(|scope| {
        let handle = thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, f)
            .map_err(|e| Error::io("start a thread", e))?;
        handle
            .join()
            .map_err(|_| Error::protocol("run inside the network namespace", "the function panicked"))
    })
}
