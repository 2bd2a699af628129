//! Where a lab keeps what: the layout of its directory, and its plan as a file.
//!
//! Owns paths and nothing behind them. The directory is the only place where a lab leaves files, apart from the
//! named network namespaces, whose names carry the lab's id.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::topology::{Machine, Plan, Role};

/// The directory used when none is given.
pub const DEFAULT_DIR: &str = "/run/caracal-lab";
/// Environment variable that marks every process of a lab with the lab's id.
pub const MARK: &str = "CARACAL_LAB_ID";

/// Reading or writing the lab's files failed.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// There is no lab in the directory.
    #[error("no lab in {}; start one with `caracal-lab up`, or name its directory with --dir", .0.display())]
    NoLab(PathBuf),
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}: not what this version writes ({source}); run `caracal-lab down` and `up` again", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

/// The layout of one lab's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// Every name that a lab makes in its directory; nothing else is ever removed there.
    pub const ENTRIES: &[&str] = &[
        "api",
        "control.sock",
        "kubeconfig",
        "lab.json",
        "lab.json.tmp",
        "lock",
        "logs",
        "nodes",
        "outside",
        "tor",
    ];

    /// The layout of a directory, which is made absolute so that its id does not depend on where one stands.
    ///
    /// # Errors
    /// The current directory cannot be found.
    pub fn new(dir: &Path) -> io::Result<Self> {
        let absolute = std::path::absolute(dir)?;
        // An existing directory may be named through a link: both names mean the same lab.
        Ok(Self {
            dir: fs::canonicalize(&absolute).unwrap_or(absolute),
        })
    }

    /// The directory itself.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The stored plan.
    #[must_use]
    pub fn plan_file(&self) -> PathBuf {
        self.dir.join("lab.json")
    }

    /// Locked by the supervisor as long as the lab is up.
    #[must_use]
    pub fn lock_file(&self) -> PathBuf {
        self.dir.join("lock")
    }

    /// The supervisor's socket.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.dir.join("control.sock")
    }

    /// The user's kubeconfig, for the host's loopback.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    /// The API server's data.
    #[must_use]
    pub fn api_data(&self) -> PathBuf {
        self.dir.join("api")
    }

    /// The router's configuration, below the folder that the router sees as its `/run`.
    #[must_use]
    pub fn bird_conf(&self, tor: &Machine) -> PathBuf {
        self.machine(tor).join("run/bird/bird.conf")
    }

    /// Log of a component, `apiserver` or `node-1/felix`.
    #[must_use]
    pub fn log(&self, component: &str) -> PathBuf {
        self.logs().join(format!("{}.log", component.replace('/', "-")))
    }

    /// The folder of logs.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// What a machine has for itself.
    #[must_use]
    pub fn machine(&self, machine: &Machine) -> PathBuf {
        match machine.role {
            Role::Node => self.dir.join("nodes").join(&machine.name),
            Role::Tor | Role::Outside => self.dir.join(&machine.name),
        }
    }

    /// Identity of the process that keeps a machine's namespaces.
    #[must_use]
    pub fn anchor_file(&self, machine: &Machine) -> PathBuf {
        self.machine(machine).join("anchor.json")
    }

    /// State of the pods of a node.
    #[must_use]
    pub fn pods(&self, machine: &Machine) -> PathBuf {
        self.machine(machine).join("pods")
    }

    /// The stored plan.
    ///
    /// # Errors
    /// No lab there, or a file that cannot be read.
    pub fn load_plan(&self) -> Result<Plan, StateError> {
        match read_json(&self.plan_file()) {
            Err(StateError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Err(StateError::NoLab(self.dir.clone()))
            }
            other => other,
        }
    }
}

/// The folders a machine has for itself: where it sees them, and their name in its part of the lab's directory.
///
/// `/run` comes first because the others may lie below it on systems where `/var/run` is a link.
#[must_use]
pub fn private_folders(role: Role) -> &'static [(&'static str, &'static str)] {
    match role {
        Role::Node => &[
            ("/run", "run"),
            ("/var/lib/calico", "var-lib-calico"),
            ("/var/lib/cni", "var-lib-cni"),
            ("/etc/cni/net.d", "etc-cni-net.d"),
            ("/opt/cni/bin", "opt-cni-bin"),
            ("/var/log/calico", "var-log-calico"),
        ],
        Role::Tor | Role::Outside => &[("/run", "run")],
    }
}

/// Reads a JSON file.
///
/// # Errors
/// The file cannot be read or does not hold a `T`.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, StateError> {
    let text = fs::read(path).map_err(|source| StateError::File {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_slice(&text).map_err(|source| StateError::Format {
        path: path.to_owned(),
        source,
    })
}

/// Writes a JSON file as a whole: a reader sees the old or the new content, never a part.
///
/// # Errors
/// The file cannot be written.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), StateError> {
    let text = serde_json::to_vec_pretty(value).map_err(|source| StateError::Format {
        path: path.to_owned(),
        source,
    })?;
    write_file(path, &text, 0o644)
}

/// Writes a file as a whole, with the given mode.
///
/// # Errors
/// The file cannot be written.
pub fn write_file(path: &Path, content: &[u8], mode: u32) -> Result<(), StateError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let failed = |source| StateError::File {
        path: path.to_owned(),
        source,
    };
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let temporary = PathBuf::from(name);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&temporary)
        .map_err(failed)?;
    file.write_all(content).map_err(failed)?;
    drop(file);
    fs::rename(&temporary, path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_without_a_plan_is_no_lab() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path()).unwrap();
        let message = layout.load_plan().unwrap_err().to_string();
        assert!(message.starts_with("no lab in "), "{message}");
        assert!(message.contains("caracal-lab up"), "{message}");
    }

    #[test]
    fn a_damaged_plan_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path()).unwrap();
        fs::write(layout.plan_file(), "{").unwrap();
        assert!(layout.load_plan().unwrap_err().to_string().contains("lab.json"));
    }

    #[test]
    fn a_relative_directory_means_the_same_lab_as_its_absolute_name() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(
            Layout::new(Path::new("x")).unwrap(),
            Layout::new(&here.join("x")).unwrap()
        );
    }
}
