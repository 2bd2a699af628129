//! One call at a time for each workload, across processes: two that make or remove the same interface would take turns
//! deleting each other's work.
//!
//! The lock is an abstract unix socket named after the host's interface. Such names belong to the network namespace,
//! exactly as the interface does, and go with the process that holds them: nothing is left behind by a kill.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use crate::error::{Code, Error, Result};

const PAUSE: Duration = Duration::from_millis(2);
/// How long another call may take before this one gives up; the runtime calls again.
const TIMEOUT: Duration = Duration::from_secs(100);

/// The right to work on an interface, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _name: UnixDatagram,
}

impl Turn {
    /// Waits until no other call works on the interface.
    ///
    /// # Errors
    /// Code 11 when another call takes too long.
    pub(crate) async fn take(interface: &str) -> Result<Self> {
        let failed =
            |error: std::io::Error| Error::new(Code::Io, format!("lock interface {interface}: {error}"));
        let address = SocketAddr::from_abstract_name(format!("caracal-cni/{interface}")).map_err(failed)?;
        let start = Instant::now();
        loop {
            match UnixDatagram::bind_addr(&address) {
                Ok(name) => return Ok(Self { _name: name }),
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(failed(error)),
            }
            if start.elapsed() > TIMEOUT {
                return Err(Error::new(
                    Code::TryAgainLater,
                    format!(
                        "another call works on interface {interface} for more than {} s",
                        TIMEOUT.as_secs()
                    ),
                )
                .hint("look for a plugin that hangs; the runtime may call again"));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_waits_for_the_first() {
        let first = Turn::take("cali-turn-test").await.unwrap();
        let other = Turn::take("cali-turn-tes2").await.unwrap();
        let mut second = Box::pin(Turn::take("cali-turn-test"));
        let early = tokio::time::timeout(Duration::from_millis(20), &mut second).await;
        assert!(early.is_err());
        drop((first, other));
        second.await.unwrap();
    }
}
