//! What the plugin's process and the node's daemon say to each other over the unix socket.
//!
//! ```text
//! plugin → daemon   Request, with the container's namespace as a descriptor
//! daemon → plugin   Ready, or Refused with the reason           (at once)
//! plugin → daemon   go                                          (nothing is done before it)
//! daemon → plugin   Done: the document for standard output, and whether it is a success
//! ```
//!
//! The word "go" makes the hand-over exact: a plugin that lost patience never says it, so the same work is not done
//! in two places. Each message is a length of four octets and a JSON text. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where the daemon listens unless configured.
pub const SOCKET: &str = "/run/caracal/cni.sock";
/// Version of this conversation; another one is refused.
pub const PROTOCOL: u32 = 1;
/// Longest message: a configuration may have 8 MiB, escaped.
pub const MESSAGE_BYTES_MAX: usize = 24 << 20;
/// The word that starts the work.
pub const GO: u8 = b'g';

/// A call as the runtime made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// The plugin's name.
    pub program: String,
    /// Device and inode of the network namespace in which the plugin runs: the host's.
    pub host_netns: (u64, u64),
    /// The variables of the environment that plugins read.
    pub env: BTreeMap<String, String>,
    /// Standard input.
    pub stdin: String,
}

/// What the daemon says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// It will do it when told to go.
    Ready,
    /// It will not; nothing was done.
    Refused(String),
    /// It is done, or has failed.
    Done {
        /// Exit code 0.
        success: bool,
        /// For standard output; empty = nothing.
        document: String,
    },
}

/// The octets of a message.
///
/// # Errors
/// When it is too long.
pub fn encode<T: Serialize>(message: &T) -> std::io::Result<Vec<u8>> {
    let mut octets = vec![0; 4];
    serde_json::to_writer(&mut octets, message)?;
    let length = octets.len() - 4;
    let prefix = u32::try_from(length).ok().filter(|_| length <= MESSAGE_BYTES_MAX);
    let prefix = prefix.ok_or_else(|| std::io::Error::other("message too long"))?;
    for (place, octet) in octets.iter_mut().zip(prefix.to_be_bytes()) {
        *place = octet;
    }
    Ok(octets)
}

/// The length that a prefix announces.
///
/// # Errors
/// When it is longer than any message.
pub fn length(prefix: [u8; 4]) -> std::io::Result<usize> {
    let length = usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
    if length > MESSAGE_BYTES_MAX {
        return Err(std::io::Error::other(format!(
            "a message of {length} bytes is announced"
        )));
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_round_trip_and_lengths_have_a_limit() {
        for reply in [
            Reply::Ready,
            Reply::Refused("why".into()),
            Reply::Done {
                success: true,
                document: "{}".into(),
            },
        ] {
            let octets = encode(&reply).unwrap();
            let (prefix, text) = octets.split_first_chunk::<4>().unwrap();
            assert_eq!(length(*prefix).unwrap(), text.len());
            assert_eq!(serde_json::from_slice::<Reply>(text).unwrap(), reply);
        }
        assert!(length([0xff; 4]).is_err());
    }
}
