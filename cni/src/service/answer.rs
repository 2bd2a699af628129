//! One connection of a plugin: who is it, can it be served here, and then its call.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use caracal_linux::handover;
use caracal_linux::netns::NetNs;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::cluster::Cluster;
use crate::error::Result;
use crate::ipam_plugin::CalicoIpam;
use crate::mirror::Mirror;
use crate::node;
use crate::plugin::Calico;
use crate::pod::MISSING_RIGHT;
use crate::skel::{Call, Plugin, dispatch};
use crate::talk::{self, GO, PROTOCOL, Reply, Request};
use crate::version::Version;

/// How long a plugin may take to say what it wants, and to say go.
const TALK_TIMEOUT: Duration = Duration::from_secs(2);
/// How much is read at first; most requests fit.
const FIRST_BYTES: usize = 16 << 10;

/// What all calls share.
#[derive(Debug)]
pub(super) struct House {
    pub(super) node: String,
    pub(super) host_netns: (u64, u64),
    pub(super) mirror: Arc<Mirror>,
    pub(super) cluster: Cluster,
}

/// Serves a connection to its end.
pub(super) async fn answer(house: &House, mut stream: UnixStream) -> io::Result<()> {
    check_peer(&stream)?;
    let (request, fd) = within(read(&mut stream)).await?;
    let call = match prepare(house, &request, fd) {
        Ok(call) => call,
        Err(reason) => return say(&mut stream, &Reply::Refused(reason)).await,
    };
    say(&mut stream, &Reply::Ready).await?;
    let mut word = [0];
    within(async {
        stream.read_exact(&mut word).await?;
        Ok(())
    })
    .await?;
    if word != [GO] {
        return Err(io::Error::other("the plugin said neither go nor nothing"));
    }
    let outcome = match request.program.as_str() {
        CalicoIpam::NAME => dispatch(&CalicoIpam, &call).await,
        _ => dispatch(&Calico::default(), &call).await,
    };
    say(&mut stream, &done(&call, outcome)).await
}

async fn within<T>(talk: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(TALK_TIMEOUT, talk).await.map_err(io::Error::other)?
}

fn done(call: &Call, outcome: Result<Option<Value>>) -> Reply {
    match outcome {
        // What was done is undone, and the plugin's own account may have the right.
        Err(error) if error.details.contains(MISSING_RIGHT) => {
            tracing::warn!(error = %error, "this daemon's account lacks a right, the plugin works itself");
            Reply::Refused(error.message)
        }
        Ok(document) => Reply::Done {
            success: true,
            document: document.map(|document| document.to_string()).unwrap_or_default(),
        },
        Err(error) => {
            tracing::warn!(
                command = call.command.as_str(),
                container = call.container_id,
                error = %error,
                details = %error.details,
                "a plugin's call failed"
            );
            let raw = call.conf.raw.get("cniVersion").and_then(Value::as_str);
            let version = raw
                .filter(|text| !text.is_empty())
                .unwrap_or(Version::NEWEST.as_str());
            Reply::Done {
                success: false,
                document: error.to_json(version).to_string(),
            }
        }
    }
}

/// Root, or the user that this process runs as. Anybody else could plug itself into any network.
fn check_peer(stream: &UnixStream) -> io::Result<()> {
    let peer = handover::peer(stream).map_err(io::Error::other)?;
    if peer.uid == 0 || peer.uid == nix::unistd::geteuid().as_raw() {
        return Ok(());
    }
    tracing::warn!(
        uid = peer.uid,
        pid = peer.pid,
        "a user who is not root asked to plug in a container"
    );
    Err(io::Error::from(io::ErrorKind::PermissionDenied))
}

async fn read(stream: &mut UnixStream) -> io::Result<(Request, Option<OwnedFd>)> {
    let mut octets = vec![0; FIRST_BYTES];
    let (count, fd) = stream
        .async_io(Interest::READABLE, || {
            handover::receive(stream, &mut octets).map_err(|error| {
                error
                    .errno()
                    .map_or_else(|| io::Error::other(error), io::Error::from_raw_os_error)
            })
        })
        .await?;
    octets.truncate(count);
    while octets.len() < 4 {
        octets.push(stream.read_u8().await?);
    }
    let (prefix, _) = octets
        .split_first_chunk::<4>()
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    let length = talk::length(*prefix)?;
    let start = octets.len();
    if length + 4 > start {
        octets.resize(length + 4, 0);
        let rest = octets.get_mut(start..).unwrap_or_default();
        stream.read_exact(rest).await?;
    }
    let text = octets.get(4..length + 4).unwrap_or_default();
    Ok((serde_json::from_slice(text)?, fd))
}

async fn say(stream: &mut UnixStream, reply: &Reply) -> io::Result<()> {
    stream.write_all(&talk::encode(reply)?).await
}

/// Looks whether the call can be served, and reads it. Changes nothing.
fn prepare(house: &House, request: &Request, fd: Option<OwnedFd>) -> Result<Call, String> {
    if request.protocol != PROTOCOL {
        return Err(format!("protocol {} is not spoken here", request.protocol));
    }
    if request.host_netns != house.host_netns {
        return Err("the plugin runs in another network namespace".to_owned());
    }
    if request.program != Calico::NAME && request.program != CalicoIpam::NAME {
        return Err(format!("plugin {:?} is not known here", request.program));
    }
    let missing = house.mirror.missing();
    if !missing.is_empty() {
        return Err(format!("still listing {}", missing.join(", ")));
    }
    let env = |key: &str| request.env.get(key).cloned();
    let mut call = Call::read(env, request.stdin.as_bytes()).map_err(|error| error.to_string())?;
    let node = node::name(&call.conf.node).map_err(|error| error.to_string())?;
    if node != house.node {
        return Err(format!(
            "this is the daemon of node {}, not of {node}",
            house.node
        ));
    }
    if request.program == Calico::NAME && !call.conf.is_calico_ipam() {
        return Err("the address plugin is another program".to_owned());
    }
    call.cluster = house.cluster.clone();
    call.handed_netns = fd.and_then(|fd| NetNs::from_fd(fd).ok()).map(Arc::new);
    call.ipam_in_process = true;
    Ok(call)
}
