//! Unix sockets: who is at the other end, and passing an open descriptor along with the first bytes.
//!
//! Sources: `unix(7)` (SCM_RIGHTS, SO_PEERCRED), `cmsg(3)`.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, getsockopt, recvmsg, sendmsg, sockopt,
};

use crate::{Error, Result};

/// The process at the other end, as the kernel knew it when it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its user.
    pub uid: u32,
    /// Its process id in the caller's namespace; 0 when it has none there.
    pub pid: i32,
}

/// Who is at the other end.
///
/// # Errors
/// When the socket is no connected unix socket.
pub fn peer(socket: &impl AsFd) -> Result<Peer> {
    let found = getsockopt(socket, sockopt::PeerCredentials)
        .map_err(|errno| Error::kernel("ask who is at the other end of a socket", errno as i32))?;
    Ok(Peer {
        uid: found.uid(),
        pid: found.pid(),
    })
}

/// Sends bytes, with a descriptor attached to the first of them. Returns how many bytes went.
///
/// # Errors
/// When the socket is closed, or would block.
pub fn send(socket: &impl AsFd, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<usize> {
    let raw = fd.map(|fd| [fd.as_raw_fd()]);
    let control: Vec<ControlMessage<'_>> = raw.iter().map(|raw| ControlMessage::ScmRights(raw)).collect();
    sendmsg::<UnixAddr>(
        socket.as_fd().as_raw_fd(),
        &[IoSlice::new(bytes)],
        &control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )
    .map_err(|errno| Error::kernel("send over a unix socket", errno as i32))
}

/// Receives bytes and the descriptor attached to them, if there is one; further ones are closed. 0 bytes: the other
/// end has closed.
///
/// # Errors
/// When the socket fails or would block.
pub fn receive(socket: &impl AsFd, buffer: &mut [u8]) -> Result<(usize, Option<OwnedFd>)> {
    let mut space = nix::cmsg_space!([i32; 4]);
    let mut parts = [IoSliceMut::new(buffer)];
    let failed = |errno: nix::errno::Errno| Error::kernel("receive over a unix socket", errno as i32);
    let message = recvmsg::<UnixAddr>(
        socket.as_fd().as_raw_fd(),
        &mut parts,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )
    .map_err(failed)?;
    let mut owned = Vec::new();
    for control in message.cmsgs().map_err(failed)? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            owned.extend(numbers.into_iter().map(crate::sys::own_received));
        }
    }
    Ok((message.bytes, owned.into_iter().next()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _, Write as _};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_descriptor_arrives_with_the_bytes_and_the_peer_is_known() {
        let (near, far) = UnixStream::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"content").unwrap();
        file.rewind().unwrap();
        assert_eq!(send(&near, b"hello", Some(file.as_fd())).unwrap(), 5);
        let mut buffer = [0; 16];
        let (count, fd) = receive(&far, &mut buffer).unwrap();
        assert_eq!(&buffer[..count], b"hello");
        let mut text = String::new();
        std::fs::File::from(fd.unwrap())
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "content");
        assert_eq!(
            peer(&far).unwrap().pid,
            i32::try_from(std::process::id()).unwrap()
        );
        send(&near, b"plain", None).unwrap();
        let (count, fd) = receive(&far, &mut buffer).unwrap();
        assert_eq!((count, fd.is_none()), (5, true));
        drop(near);
        assert_eq!(receive(&far, &mut buffer).unwrap().0, 0);
    }
}
