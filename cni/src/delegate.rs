//! Asking the plugin for addresses: by executing it, as the CNI specification says, or, when it is our own, by doing
//! its work in this process.
//!
//! In this process: one start, one connection and one document fewer, and a kill cannot leave a child behind that goes
//! on assigning. Whoever puts something else in the place of `calico-ipam` gets it executed. Source: CNI specification
//! 1.1.0, "Plugin Delegation".

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::io::AsyncWriteExt;

use crate::args::Args;
use crate::conf::Conf;
use crate::error::{Code, Error, Result};
use crate::ipam_plugin::CalicoIpam;
use crate::result::AddResult;
use crate::skel::{Call, Command, Plugin as _};

/// Longest time that an address plugin may take: calico-ipam gives itself 90 s after it has the host's lock.
const TIMEOUT: Duration = Duration::from_secs(120);
/// How programs begin.
const ELF: [u8; 4] = *b"\x7fELF";
/// Tells our own address plugin to end with the process that started it.
pub(crate) const PARENT: &str = "CARACAL_CNI_PARENT";

/// Differences between the own call and the delegated one.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Another `CNI_ARGS`.
    pub args: Option<String>,
    /// Another container.
    pub container_id: Option<String>,
}

/// The address plugin, and what it gets.
#[derive(Clone, Debug)]
pub struct Delegate {
    way: Way,
    name: String,
    conf: Map<String, Value>,
}

#[derive(Clone, Debug)]
enum Way {
    InProcess,
    Program(PathBuf),
}

/// The address plugin's program in the folders of a call.
fn find_program(call: &Call) -> Option<PathBuf> {
    let name = &call.conf.ipam.kind;
    let mut paths = call.path.iter().map(|folder| folder.join(name));
    paths.find(|path| path.is_file())
}

/// True when the address plugin of a call is our own `calico-ipam`: a program, not a script, beside this one.
pub(crate) fn is_own(call: &Call) -> bool {
    if !call.conf.is_calico_ipam() {
        return false;
    }
    let Some(found) = find_program(call).and_then(|path| path.canonicalize().ok()) else {
        return false;
    };
    let own = std::env::current_exe().and_then(|path| path.canonicalize());
    let beside = own.is_ok_and(|own| own.parent() == found.parent());
    beside && is_program(&found)
}

fn is_program(path: &Path) -> bool {
    let mut start = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && start == ELF
}

impl Delegate {
    /// Looks the plugin up in the folders of the call.
    ///
    /// # Errors
    /// Code 7 when the configuration names none, or one that is not there.
    pub fn find(call: &Call, conf: Map<String, Value>) -> Result<Self> {
        let name = call.conf.ipam.kind.clone();
        if name.is_empty() || name.contains('/') {
            return Err(Error::new(
                Code::InvalidConfig,
                format!("network configuration: ipam.type is {name:?}"),
            )
            .hint("write the name of an address plugin, as \"calico-ipam\""));
        }
        if call.ipam_in_process && call.conf.is_calico_ipam() {
            let way = Way::InProcess;
            return Ok(Self { way, name, conf });
        }
        let program = find_program(call).ok_or_else(|| {
            let folders: Vec<String> = call.path.iter().map(|path| path.display().to_string()).collect();
            Error::new(
                Code::InvalidConfig,
                format!("failed to find plugin {name:?} in path [{}]", folders.join(" ")),
            )
            .hint("install it there, or correct ipam.type or CNI_PATH")
        })?;
        let way = Way::Program(program);
        Ok(Self { way, name, conf })
    }

    /// ADD.
    ///
    /// # Errors
    /// What the plugin reports, or that it could not be run.
    pub async fn add(&self, call: &Call, changes: &Changes) -> Result<AddResult> {
        let Way::Program(program) = &self.way else {
            return CalicoIpam.add(&self.own_call(call, Command::Add, changes)?).await;
        };
        let output = self.run(program, call, Command::Add, changes).await?;
        let document: Value = serde_json::from_slice(&output)
            .map_err(|error| Error::new(Code::Decode, format!("result of plugin {}: {error}", self.name)))?;
        AddResult::from_json(&document, call.conf.version)
            .map_err(|error| error.context(format_args!("plugin {}", self.name)))
    }

    /// Any command without a result.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub async fn tell(&self, call: &Call, command: Command, changes: &Changes) -> Result<()> {
        let Way::Program(program) = &self.way else {
            let call = self.own_call(call, command, changes)?;
            return match command {
                Command::Add => CalicoIpam.add(&call).await.map(drop),
                Command::Del => CalicoIpam.del(&call).await,
                Command::Check => CalicoIpam.check(&call).await,
                Command::Gc => CalicoIpam.gc(&call).await,
                Command::Status => CalicoIpam.status(&call).await,
            };
        };
        self.run(program, call, command, changes).await.map(drop)
    }

    /// The call as the address plugin would read it.
    fn own_call(&self, call: &Call, command: Command, changes: &Changes) -> Result<Call> {
        let mut own = call.clone();
        own.command = command;
        own.conf = Conf::from_map(self.conf.clone())?;
        if let Some(args) = &changes.args {
            own.args = Args::parse(args)?;
        }
        if let Some(container_id) = &changes.container_id {
            own.container_id.clone_from(container_id);
        }
        Ok(own)
    }

    async fn run(&self, program: &Path, call: &Call, command: Command, changes: &Changes) -> Result<Vec<u8>> {
        let failed = |what: &str, error: std::io::Error| {
            Error::new(Code::Io, format!("{what} plugin {}: {error}", program.display()))
        };
        let mut process = tokio::process::Command::new(program);
        process
            .env("CNI_COMMAND", command.as_str())
            .env(PARENT, std::process::id().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true);
        set_call(&mut process, call, changes);
        let mut child = process.spawn().map_err(|error| failed("start", error))?;
        let document = Value::Object(self.conf.clone()).to_string();
        let talk = async {
            if let Some(mut stdin) = child.stdin.take() {
                // A plugin that ends without reading says why in its output.
                let _ = stdin.write_all(document.as_bytes()).await;
            }
            child
                .wait_with_output()
                .await
                .map_err(|error| failed("run", error))
        };
        let output = tokio::time::timeout(TIMEOUT, talk).await.map_err(|_| {
            Error::new(
                Code::TryAgainLater,
                format!("plugin {} did not end within {} s", self.name, TIMEOUT.as_secs()),
            )
        })??;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let reported: Option<Error> = serde_json::from_slice(&output.stdout)
            .ok()
            .and_then(|document| Error::from_json(&document));
        Err(reported.unwrap_or_else(|| {
            Error::new(
                Code::Plugin,
                format!("plugin {} failed without a reason: {}", self.name, output.status),
            )
        }))
    }
}

/// Makes this process end when the one that started it does, if that asked for it: an address that is assigned after
/// its asker is gone would be nobody's.
pub(crate) fn end_with_parent() -> Result<()> {
    let Ok(text) = std::env::var(PARENT) else {
        return Ok(());
    };
    // Without it the work is done all the same; GC releases what is left over.
    let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
    let parent = text.parse().map(nix::unistd::Pid::from_raw);
    match parent.map(|parent| nix::sys::signal::kill(parent, None)) {
        Ok(Err(nix::errno::Errno::ESRCH)) => Err(Error::new(
            Code::TryAgainLater,
            "the plugin that asked for addresses is gone",
        )),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The environment of the delegated call. It is set in full: a library's caller need not have it in its own.
fn set_call(process: &mut tokio::process::Command, call: &Call, changes: &Changes) {
    let container_id = changes.container_id.as_ref().unwrap_or(&call.container_id);
    process.env("CNI_CONTAINERID", container_id);
    process
        .env("CNI_NETNS", &call.netns)
        .env("CNI_IFNAME", &call.ifname);
    let args = changes.args.clone().unwrap_or_else(|| call.args.to_string());
    process.env("CNI_ARGS", args);
    if let Ok(path) = std::env::join_paths(&call.path) {
        process.env("CNI_PATH", path);
    }
}
