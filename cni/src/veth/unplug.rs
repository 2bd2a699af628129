//! Taking devices away, by name, in the host's namespace and in containers'.

use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use caracal_linux::netlink::{Direct, Request};
use caracal_linux::netns::NetNs;
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;

use super::in_kernel;
use crate::error::{Code, Error, Result};

/// How far apart it is looked whether a device is out of sight.
const GONE_PAUSE: Duration = Duration::from_micros(300);

/// Deletes a device of the calling thread's namespace, and waits until it is out of sight.
///
/// By then it is down, its routes are gone and its name is free. The kernel goes on for some 20 ms until no processor
/// can hold a reference; nobody needs to wait for that, so the request has a thread of its own.
pub(super) fn remove(name: &str) -> Result<bool> {
    if if_nametoindex(name) == Err(Errno::ENODEV) {
        return Ok(false);
    }
    let (done, verdict) = std::sync::mpsc::sync_channel(1);
    let owned = name.to_owned();
    // A thread begins in the namespace of the one that starts it.
    std::thread::Builder::new()
        .name("unplug".to_owned())
        .spawn(move || {
            let removed = Direct::open().and_then(|mut host| host.one(Request::Delete(&owned)));
            // Nobody listens any more when the device was out of sight before.
            let _ = done.send(removed);
        })
        .map_err(|error| Error::new(Code::Io, format!("start a thread: {error}")))?;
    loop {
        match verdict.recv_timeout(GONE_PAUSE) {
            Ok(Ok(_)) => return Ok(true),
            Ok(Err(error)) if error.is_not_found() => return Ok(false),
            Ok(Err(error)) => return Err(error.into()),
            Err(RecvTimeoutError::Timeout) if if_nametoindex(name) == Err(Errno::ENODEV) => return Ok(true),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::new(
                    Code::Internal,
                    format!("the removal of {name} ended early"),
                ));
            }
        }
    }
}

/// Deletes a device of the host, and so its other end. Returns whether there was one.
///
/// # Errors
/// When the kernel refuses.
pub async fn remove_host_end(name: &str) -> Result<bool> {
    let name = name.to_owned();
    in_kernel(move || remove(&name)).await
}

/// Deletes a device in a container. A namespace or device that is gone is success.
///
/// # Errors
/// When the namespace cannot be entered or the kernel refuses.
pub async fn remove_container_end(netns: caracal_linux::Result<Arc<NetNs>>, ifname: &str) -> Result<bool> {
    let ifname = ifname.to_owned();
    match netns {
        Ok(netns) => in_kernel(move || netns.run(|| remove(&ifname))?).await,
        Err(error) if error.is_not_found() => Ok(false),
        // The path of a namespace that ended stays behind as a plain file.
        Err(caracal_linux::Error::Invalid { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
