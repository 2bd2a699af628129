//! Starting table programs: `iptables-save` and `iptables-restore`, with a timeout, input and collected output.
//!
//! Owns processes; nothing else in felix starts any. Never interprets what they print.

use std::future::Future;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// What a program printed, and how it ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Output {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Why a program could not be run to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It could not be started or spoken to.
    #[error("run {program}; is it installed?")]
    Start {
        /// The program.
        program: String,
        /// The operating system's error.
        #[source]
        source: std::io::Error,
    },
    /// It did not end in time and was killed.
    #[error("{program} did not end within {} s and was killed", timeout.as_secs())]
    Timeout {
        /// The program.
        program: String,
        /// How long it was waited for.
        timeout: Duration,
    },
}

/// Runs programs: the real one, or a recorded one in tests.
pub trait CommandRunner {
    /// Runs a program to its end.
    ///
    /// # Errors
    /// When it cannot be started or does not end in time. A non-zero exit code is not an error here.
    fn run(
        &self,
        argv: &[&str],
        stdin: &str,
        timeout: Duration,
    ) -> impl Future<Output = Result<Output, Error>>;
}

/// Runs programs on this machine, in the network namespace of the calling thread.
#[derive(Clone, Copy, Default, Debug)]
pub struct SystemRunner;

impl CommandRunner for SystemRunner {
    async fn run(&self, argv: &[&str], stdin: &str, timeout: Duration) -> Result<Output, Error> {
        let (program, arguments) = argv.split_first().unwrap_or((&"", &[]));
        let failed = |source| Error::Start {
            program: (*program).to_owned(),
            source,
        };
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let pipe = child.stdin.take();
        // Written beside reading: a program that prints before it has read everything must not block both sides.
        let write = async {
            if let Some(mut pipe) = pipe {
                // A program that ends early says why on its own; the broken pipe is only the consequence.
                let _ = pipe.write_all(stdin.as_bytes()).await;
            }
        };
        let both = async { tokio::join!(write, child.wait_with_output()).1 };
        let output = tokio::time::timeout(timeout, both)
            .await
            .map_err(|_| Error::Timeout {
                program: (*program).to_owned(),
                timeout,
            })?
            .map_err(failed)?;
        Ok(Output {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}
