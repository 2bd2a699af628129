//! What keeps a store good: backups, also of a running server, restoring, and forgetting old events.
//!
//! A running server hands out backups on the socket `backup.sock` of its data directory, to whoever may open it.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use caracal_apiserver::ApiServer;
use clap::Subcommand;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixListener;
use tokio::task::JoinSet;

const SOCKET: &str = "backup.sock";
/// How often old events are looked for.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(60);
/// How long somebody may take to read a backup.
const READ_TIMEOUT: Duration = Duration::from_secs(600);

/// What the program does instead of serving.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a backup of one moment, of a running server or of a directory that none uses.
    Backup {
        /// The new file.
        file: PathBuf,
        /// The server's data directory.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
    /// Make a store from a backup, in a directory that has none.
    Restore {
        /// The backup.
        file: PathBuf,
        /// The new server's data directory.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
}

/// Runs a command.
pub(crate) fn run(command: Command) -> Result<()> {
    match command {
        Command::Backup { file, data } => backup(&file, &data),
        Command::Restore { file, data } => {
            let from = File::open(&file).with_context(|| format!("open {}", file.display()))?;
            let objects = caracal_apiserver::restore(&data, from)
                .with_context(|| format!("restore {} into {}", file.display(), data.display()))?;
            say(&format!("restored {objects} objects into {}", data.display()))
        }
    }
}

fn say(text: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{text}").context("write to stdout")
}

fn backup(file: &Path, data: &Path) -> Result<()> {
    let unfinished = file.with_added_extension("unfinished");
    let result = write_backup(&unfinished, data);
    match result {
        Ok(()) => {
            fs::rename(&unfinished, file).with_context(|| format!("write {}", file.display()))?;
            say(&format!("wrote {}", file.display()))
        }
        Err(error) => {
            let _ = fs::remove_file(&unfinished);
            Err(error)
        }
    }
}

fn write_backup(file: &Path, data: &Path) -> Result<()> {
    let context = || format!("write {}", file.display());
    let mut to = File::create(file).with_context(context)?;
    // Secrets are in it.
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).with_context(context)?;
    match UnixStream::connect(data.join(SOCKET)) {
        Ok(mut from) => {
            from.set_read_timeout(Some(READ_TIMEOUT))?;
            std::io::copy(&mut from, &mut to).context("read from the server")?;
        }
        // No server runs there.
        Err(_) => {
            let to = std::io::BufWriter::new(&to);
            caracal_apiserver::backup_directory(data, to).context("no server answers in that directory")?;
        }
    }
    to.sync_all().with_context(context)?;
    whole(file)
}

/// A backup whose last line is missing is none: the server may have ended in the middle.
fn whole(file: &Path) -> Result<()> {
    let text = fs::read(file).with_context(|| format!("read {}", file.display()))?;
    let last = text
        .strip_suffix(b"\n")
        .and_then(|text| text.rsplit(|byte| *byte == b'\n').next());
    if last.is_some_and(|line| line.starts_with(b"{\"objects\":")) {
        return Ok(());
    }
    bail!("the server ended before the backup was whole; try again");
}

/// What runs beside the server; it ends when this is dropped.
pub(crate) struct Tasks {
    _tasks: JoinSet<()>,
    socket: Option<PathBuf>,
}

impl Tasks {
    pub(crate) fn start(server: &ApiServer, data: Option<&Path>) -> Result<Self> {
        let mut tasks = JoinSet::new();
        tasks.spawn(expire(server.clone()));
        let socket = data.map(|data| data.join(SOCKET));
        if let Some(path) = &socket {
            let _ = fs::remove_file(path);
            let listener =
                UnixListener::bind(path).with_context(|| format!("listen on {}", path.display()))?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
            tasks.spawn(hand_out(server.clone(), listener));
        }
        Ok(Self {
            _tasks: tasks,
            socket,
        })
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        if let Some(path) = &self.socket {
            let _ = fs::remove_file(path);
        }
    }
}

async fn expire(server: ApiServer) {
    loop {
        tokio::time::sleep(EXPIRE_INTERVAL).await;
        if let Err(error) = server.expire_events().await {
            tracing::warn!(%error, "old events could not be removed");
        }
    }
}

/// One backup at a time: each holds its whole text.
async fn hand_out(server: ApiServer, listener: UnixListener) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let mut text = Vec::new();
        if let Err(error) = server.backup(&mut text) {
            tracing::warn!(%error, "a backup could not be made");
            continue;
        }
        let sent = tokio::time::timeout(READ_TIMEOUT, async {
            stream.write_all(&text).await?;
            stream.shutdown().await
        });
        match sent.await {
            Ok(Ok(())) => tracing::info!(bytes = text.len(), "handed out a backup"),
            Ok(Err(error)) => tracing::warn!(%error, "a backup was not read to its end"),
            Err(_) => tracing::warn!("a backup was not read in time"),
        }
    }
}
