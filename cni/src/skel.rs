//! The protocol around a plugin: environment and standard input in, one JSON document and an exit code out.
//!
//! Source: CNI specification 1.1.0, "Execution Protocol"; its reference implementation's `pkg/skel`.

use std::future::Future;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use caracal_linux::netns::NetNs;
use serde_json::Value;

use crate::args::Args;
use crate::cluster::Cluster;
use crate::conf::{CALICO_IPAM, Conf, parse_object};
use crate::error::{Code, Error, Result};
use crate::front;
use crate::result::AddResult;
use crate::version::Version;

/// Largest configuration that is read.
const STDIN_BYTES_MAX: u64 = 8 << 20;

/// What the runtime wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Plug a container in.
    Add,
    /// Undo it.
    Del,
    /// Compare with what was promised.
    Check,
    /// Release what is not listed.
    Gc,
    /// Say whether containers can be plugged in.
    Status,
}

impl Command {
    /// The text of `CNI_COMMAND`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
        }
    }

    const fn since(self) -> Version {
        match self {
            Self::Add | Self::Del => Version::V0_1_0,
            Self::Check => Version::V0_4_0,
            Self::Gc | Self::Status => Version::V1_1_0,
        }
    }

    const fn required(self) -> &'static [&'static str] {
        match self {
            Self::Add | Self::Check => &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"],
            Self::Del => &["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"],
            Self::Gc | Self::Status => &["CNI_PATH"],
        }
    }
}

/// One call of a plugin, checked.
#[derive(Clone, Debug)]
pub struct Call {
    /// What is wanted.
    pub command: Command,
    /// Container id.
    pub container_id: String,
    /// Path of the container's namespace; may be empty on DEL.
    pub netns: String,
    /// Interface name in the container.
    pub ifname: String,
    /// `CNI_ARGS`.
    pub args: Args,
    /// Folders of plugins.
    pub path: Vec<PathBuf>,
    /// The network configuration.
    pub conf: Conf,
    /// `FELIX_INTERFACEPREFIX`, as felix reads it.
    pub interface_prefix: String,
    /// The way to the cluster.
    pub cluster: Cluster,
    /// The container's namespace, when the caller passed it on already opened.
    pub handed_netns: Option<Arc<NetNs>>,
    /// Do the work of `calico-ipam` in this process instead of starting it.
    pub ipam_in_process: bool,
}

/// A plugin.
pub trait Plugin: Sync {
    /// Its program's name.
    const NAME: &'static str;

    /// Plugs a container in.
    fn add(&self, call: &Call) -> impl Future<Output = Result<AddResult>> + Send;
    /// Undoes ADD. What is gone already is success.
    fn del(&self, call: &Call) -> impl Future<Output = Result<()>> + Send;
    /// Compares with what ADD promised.
    fn check(&self, call: &Call) -> impl Future<Output = Result<()>> + Send;
    /// Releases what the configuration does not list.
    fn gc(&self, call: &Call) -> impl Future<Output = Result<()>> + Send;
    /// Says whether containers can be plugged in.
    fn status(&self, call: &Call) -> impl Future<Output = Result<()>> + Send;
}

/// Runs a plugin as a process.
pub fn main<P: Plugin>(plugin: &P) -> ExitCode {
    let flag = std::env::args().nth(1);
    if matches!(flag.as_deref(), Some("-v" | "--version")) {
        return emit(concat!("v", env!("CARGO_PKG_VERSION")), ExitCode::SUCCESS);
    }
    let mut stdin = Vec::new();
    let read = std::io::stdin()
        .lock()
        .take(STDIN_BYTES_MAX + 1)
        .read_to_end(&mut stdin);
    let version = stated_version(&stdin);
    let outcome = match read {
        Err(error) => Err(Error::new(Code::Io, format!("read standard input: {error}"))),
        Ok(_) if stdin.len() as u64 > STDIN_BYTES_MAX => Err(Error::new(
            Code::Decode,
            format!("the network configuration has more than {STDIN_BYTES_MAX} bytes"),
        )),
        Ok(_) => run(plugin, |key| std::env::var(key).ok(), &stdin),
    };
    match outcome {
        Ok(Outcome::Own(None)) => ExitCode::SUCCESS,
        Ok(Outcome::Own(Some(document))) => emit(&document.to_string(), ExitCode::SUCCESS),
        Ok(Outcome::Daemon(answer)) => {
            let code = if answer.success {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            };
            if answer.document.is_empty() {
                return code;
            }
            emit(&answer.document, code)
        }
        Err(error) => {
            tracing::error!(error = %error, details = %error.details, "call failed");
            let version = version.as_deref().unwrap_or(Version::NEWEST.as_str());
            emit(&error.to_json(version).to_string(), ExitCode::FAILURE)
        }
    }
}

fn emit(text: &str, code: ExitCode) -> ExitCode {
    let mut stdout = std::io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.write_all(b"\n"))
        .and_then(|()| stdout.flush());
    // A runtime that does not read the answer cannot know of success.
    if written.is_ok() { code } else { ExitCode::FAILURE }
}

/// The version that the configuration states, whatever it is.
fn stated_version(stdin: &[u8]) -> Option<String> {
    let document: Value = serde_json::from_slice(stdin).ok()?;
    let version = document.get("cniVersion")?.as_str()?;
    Some(version.to_owned()).filter(|version| !version.is_empty())
}

/// Who did the work, and what came of it.
enum Outcome {
    Own(Option<Value>),
    Daemon(front::Answer),
}

fn run<P: Plugin>(plugin: &P, env: impl Fn(&str) -> Option<String>, stdin: &[u8]) -> Result<Outcome> {
    if env("CNI_COMMAND").as_deref() == Some("VERSION") {
        if !stdin.iter().all(u8::is_ascii_whitespace) {
            parse_object(stdin)?;
        }
        return Ok(Outcome::Own(Some(Version::answer(
            stated_version(stdin).as_deref(),
        ))));
    }
    let mut call = Call::read(&env, stdin)?;
    crate::log::start(&call.conf.log);
    if P::NAME == CALICO_IPAM {
        crate::delegate::end_with_parent()?;
    }
    call.ipam_in_process = P::NAME == CALICO_IPAM || crate::delegate::is_own(&call);
    if call.ipam_in_process {
        match front::ask(&call, P::NAME, &env, stdin) {
            Ok(answer) => return Ok(Outcome::Daemon(answer)),
            Err(reason) => tracing::debug!(reason, "the node's daemon does not take the call"),
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(Code::Internal, format!("start the runtime: {error}")))?;
    runtime.block_on(dispatch(plugin, &call)).map(Outcome::Own)
}

/// Runs the command of a call.
///
/// # Errors
/// Whatever the plugin reports.
pub async fn dispatch<P: Plugin>(plugin: &P, call: &Call) -> Result<Option<Value>> {
    match call.command {
        Command::Add => {
            let result = Box::pin(plugin.add(call)).await?;
            return Ok(Some(result.to_json(call.conf.version)));
        }
        Command::Del => Box::pin(plugin.del(call)).await?,
        Command::Check => Box::pin(plugin.check(call)).await?,
        Command::Gc => Box::pin(plugin.gc(call)).await?,
        Command::Status => Box::pin(plugin.status(call)).await?,
    }
    Ok(None)
}

impl Call {
    /// Reads a call.
    ///
    /// # Errors
    /// Code 4 for the environment, 6 and 7 for the configuration, 1 for its version.
    pub fn read(env: impl Fn(&str) -> Option<String>, stdin: &[u8]) -> Result<Self> {
        let command = command(env("CNI_COMMAND").unwrap_or_default().as_str())?;
        let var = |key: &str| env(key).unwrap_or_default();
        let missing: Vec<&str> = command
            .required()
            .iter()
            .copied()
            .filter(|key| var(key).is_empty())
            .collect();
        if !missing.is_empty() {
            return Err(invalid(format!(
                "required env variables [{}] missing",
                missing.join(",")
            )));
        }
        let conf = Conf::parse(stdin)?;
        if conf.version < command.since() {
            return Err(Error::new(
                Code::IncompatibleVersion,
                format!(
                    "config version {} does not allow {}",
                    conf.version,
                    command.as_str()
                ),
            )
            .hint(format!("set cniVersion to {} or newer", command.since())));
        }
        let call = Self {
            command,
            container_id: var("CNI_CONTAINERID"),
            netns: var("CNI_NETNS"),
            ifname: var("CNI_IFNAME"),
            args: Args::parse(&var("CNI_ARGS"))?,
            path: std::env::split_paths(&var("CNI_PATH"))
                .filter(|path| !path.as_os_str().is_empty())
                .collect(),
            conf,
            interface_prefix: var("FELIX_INTERFACEPREFIX"),
            cluster: Cluster::default(),
            handed_netns: None,
            ipam_in_process: false,
        };
        call.check_names()?;
        Ok(call)
    }

    /// The container's namespace.
    ///
    /// # Errors
    /// As [`NetNs::open`].
    pub fn open_netns(&self) -> caracal_linux::Result<Arc<NetNs>> {
        match &self.handed_netns {
            Some(netns) => Ok(Arc::clone(netns)),
            None => NetNs::open(&self.netns).map(Arc::new),
        }
    }

    fn check_names(&self) -> Result<()> {
        let id = &self.container_id;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let id_ok = id.bytes().all(plain)
            && id
                .bytes()
                .next()
                .is_none_or(|first| first.is_ascii_alphanumeric());
        if !id_ok {
            return Err(invalid(format!("CNI_CONTAINERID is {id:?}"))
                .hint("use letters, digits, '_', '.' and '-', a letter or digit first"));
        }
        let name = &self.ifname;
        let bad = |byte: u8| byte == b'/' || byte == b':' || byte.is_ascii_whitespace() || byte == 0;
        if name.len() > 15 || name == "." || name == ".." || name.bytes().any(bad) {
            return Err(invalid(format!("CNI_IFNAME is {name:?}"))
                .hint("use at most 15 bytes without '/', ':' and white space, as eth0"));
        }
        Ok(())
    }
}

fn invalid(message: String) -> Error {
    Error::new(Code::InvalidEnvironment, message)
}

fn command(text: &str) -> Result<Command> {
    let all = [
        Command::Add,
        Command::Del,
        Command::Check,
        Command::Gc,
        Command::Status,
    ];
    if text.is_empty() {
        return Err(invalid("required env variables [CNI_COMMAND] missing".to_owned())
            .hint("this is a CNI plugin: a container runtime calls it"));
    }
    all.into_iter()
        .find(|command| command.as_str() == text)
        .ok_or_else(|| {
            invalid(format!("unknown CNI_COMMAND {text:?}"))
                .hint("use ADD, DEL, CHECK, GC, STATUS or VERSION")
        })
}

#[cfg(test)]
#[path = "skel/tests.rs"]
mod tests;
