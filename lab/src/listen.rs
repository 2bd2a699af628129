//! Handing two listening sockets to a program by systemd's convention (`sd_listen_fds(3)`).
//!
//! `LISTEN_PID` must be the program's own process id, which only the process itself knows: so the sockets arrive as
//! standard input and output of this step, which puts them at descriptors 3 and 4 and becomes the program.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::fcntl::{FcntlArg, fcntl};

use crate::error::{Error, Result};

/// Hidden verb of the program that does this.
pub const VERB: &str = "listen";
/// First descriptor of the convention.
const FIRST: i32 = 3;

/// Becomes the program, with the sockets in place. Returns only when that fails.
///
/// # Errors
/// A descriptor is taken, or the program cannot be started.
pub fn become_program(command: &[String]) -> Result<()> {
    let (program, args) = command
        .split_first()
        .ok_or_else(|| Error::refused("listen: no program given"))?;
    for (offset, result) in [
        fcntl(std::io::stdin(), FcntlArg::F_DUPFD(FIRST)),
        fcntl(std::io::stdout(), FcntlArg::F_DUPFD(FIRST)),
    ]
    .into_iter()
    .enumerate()
    {
        let fd = result.map_err(|e| Error::errno("take a listening socket", e))?;
        if usize::try_from(fd - FIRST).ok() != Some(offset) {
            return Err(Error::refused(format!(
                "listen: descriptor {fd} where the convention wants another"
            )));
        }
    }
    let null = File::open("/dev/null").map_err(|e| Error::io("open /dev/null", e))?;
    nix::unistd::dup2_stdin(&null).map_err(|e| Error::errno("replace standard input", e))?;
    nix::unistd::dup2_stdout(std::io::stderr()).map_err(|e| Error::errno("replace standard output", e))?;
    debug_assert!(null.as_raw_fd() > FIRST);
    let error = Command::new(program)
        .args(args)
        .env("LISTEN_FDS", "2")
        .env("LISTEN_PID", std::process::id().to_string())
        .exec();
    Err(Error::io(format!("start {program}"), error))
}
