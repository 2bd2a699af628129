//! The plugin's process as seen by the daemon: it hands its call over, or learns that it must work itself.
//!
//! Plain blocking sockets with short limits: this is the only part that runs when the daemon does the work, so it
//! starts no runtime and no TLS.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use caracal_linux::handover;
use caracal_linux::netns::NetNs;

use crate::skel::Call;
use crate::talk::{self, GO, PROTOCOL, Reply, Request};

/// Variables of the environment that plugins read.
pub(crate) const VARIABLES: [&str; 7] = [
    "CNI_COMMAND",
    "CNI_CONTAINERID",
    "CNI_NETNS",
    "CNI_IFNAME",
    "CNI_ARGS",
    "CNI_PATH",
    "FELIX_INTERFACEPREFIX",
];

/// How long the daemon may take to say whether it will work.
const READY_TIMEOUT: Duration = Duration::from_millis(200);
/// How long it may take for the work; as long as a call may take that the plugin does itself.
const DONE_TIMEOUT: Duration = Duration::from_secs(150);

/// What the daemon answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Exit code 0.
    pub(crate) success: bool,
    /// For standard output.
    pub(crate) document: String,
}

/// Asks the daemon. The error is why the caller must do the work itself; the handle makes it safe even when the
/// daemon died half-way.
pub(crate) fn ask(
    call: &Call,
    program: &str,
    env: impl Fn(&str) -> Option<String>,
    stdin: &[u8],
) -> Result<Answer, String> {
    let Some(socket) = &call.conf.daemon_socket else {
        return Err("daemon_socket is \"none\"".to_owned());
    };
    let mut stream = connect(socket)?;
    let request = Request {
        protocol: PROTOCOL,
        program: program.to_owned(),
        host_netns: NetNs::current()
            .and_then(|netns| netns.id())
            .map_err(|error| error.to_string())?,
        env: VARIABLES
            .iter()
            .filter_map(|key| Some(((*key).to_owned(), env(key)?)))
            .collect::<BTreeMap<_, _>>(),
        stdin: String::from_utf8(stdin.to_vec()).map_err(|error| error.to_string())?,
    };
    let netns = NetNs::open(&call.netns).ok();
    send(&mut stream, &request, netns.as_ref()).map_err(|error| format!("send: {error}"))?;
    match receive(&mut stream) {
        Ok(Reply::Ready) => {}
        Ok(Reply::Refused(reason)) => return Err(reason),
        Ok(Reply::Done { .. }) => return Err("it answered out of turn".to_owned()),
        Err(error) => return Err(format!("no answer: {error}")),
    }
    let go = stream
        .set_read_timeout(Some(DONE_TIMEOUT))
        .and_then(|()| stream.write_all(&[GO]));
    go.map_err(|error| format!("send: {error}"))?;
    match receive(&mut stream) {
        Ok(Reply::Done { success, document }) => Ok(Answer { success, document }),
        Ok(Reply::Refused(reason)) => Err(reason),
        Ok(Reply::Ready) => Err("it answered out of turn".to_owned()),
        Err(error) => Err(format!("it went away while it worked: {error}")),
    }
}

fn connect(socket: &Path) -> Result<UnixStream, String> {
    let stream = UnixStream::connect(socket).map_err(|error| format!("{}: {error}", socket.display()))?;
    stream
        .set_read_timeout(Some(READY_TIMEOUT))
        .and_then(|()| stream.set_write_timeout(Some(READY_TIMEOUT)))
        .map_err(|error| error.to_string())?;
    Ok(stream)
}

fn send(stream: &mut UnixStream, request: &Request, netns: Option<&NetNs>) -> std::io::Result<()> {
    let octets = talk::encode(request)?;
    let sent = handover::send(stream, &octets, netns.map(AsFd::as_fd)).map_err(std::io::Error::other)?;
    stream.write_all(octets.get(sent..).unwrap_or_default())
}

fn receive(stream: &mut UnixStream) -> std::io::Result<Reply> {
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix)?;
    let mut text = vec![0; talk::length(prefix)?];
    stream.read_exact(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}
