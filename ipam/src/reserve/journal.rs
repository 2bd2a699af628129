//! The journal of a reserve: one small file, replaced as a whole, under an exclusive lock.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Available, Returned};
use crate::clock;
use crate::error::{Error, Result};
use crate::step::{Step, is_left_out};

const FILE: &str = "journal.json";
const LOCK: &str = "lock";
/// What the handle of a journal begins with.
pub(super) const HANDLE_PREFIX: &str = "caracal-reserve-";
/// The form of the file.
const VERSION: u32 = 1;

/// How far an address has come on its way from the reserve to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum State {
    /// The container has it; the block says that it is set aside.
    Taken,
    /// The container has it; the block may say either.
    Settling,
    /// The container is gone; the block may say either.
    Released,
}

/// An address that a container has or had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Taken {
    pub(super) address: IpAddr,
    pub(super) block: IpNet,
    pub(super) handle: String,
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) state: State,
}

/// What the file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    version: u32,
    /// The handle of what is set aside; random, so that no other journal has it.
    handle: String,
    node: String,
    /// True until nothing of earlier journals is left in blocks.
    fresh: bool,
    available: Vec<Available>,
    taken: Vec<Taken>,
}

/// A journal, locked until it is dropped.
#[derive(Debug)]
pub(super) struct Journal {
    folder: PathBuf,
    content: Content,
    _lock: File,
}

impl Journal {
    pub(super) fn open(folder: &Path, node: &str) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
        let lock = lock(&folder.join(LOCK))?;
        let path = folder.join(FILE);
        let read = match std::fs::read(&path) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(&path, &error)),
        };
        let parsed = read
            .as_deref()
            .and_then(|bytes| serde_json::from_slice::<Content>(bytes).ok())
            .filter(|content| content.version == VERSION && content.node == node);
        if let Some(content) = parsed {
            return Ok(Self {
                folder: folder.to_owned(),
                content,
                _lock: lock,
            });
        }
        if read.is_some() {
            tracing::warn!(path = %path.display(), "the reserve's journal is damaged or of another node; a new one begins");
            std::fs::rename(&path, folder.join("journal.unusable")).map_err(|error| failed(&path, &error))?;
        }
        let journal = Self {
            folder: folder.to_owned(),
            content: Content {
                version: VERSION,
                handle: new_handle(),
                node: node.to_owned(),
                fresh: true,
                available: Vec::new(),
                taken: Vec::new(),
            },
            _lock: lock,
        };
        journal.write()?;
        Ok(journal)
    }

    /// Makes the changes durable. After an error the file is as it was, or as it should be; never in between.
    pub(super) fn write(&self) -> Result<()> {
        let path = self.folder.join(FILE);
        let next = self.folder.join("journal.next");
        let bytes = serde_json::to_vec(&self.content).map_err(|error| failed(&path, &error))?;
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&next)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            std::fs::rename(&next, &path)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(|error| failed(&path, &error))
    }

    pub(super) fn handle(&self) -> &str {
        &self.content.handle
    }

    pub(super) const fn is_fresh(&self) -> bool {
        self.content.fresh
    }

    pub(super) const fn set_fresh(&mut self, fresh: bool) {
        self.content.fresh = fresh;
    }

    pub(super) fn available(&self) -> impl Iterator<Item = &Available> {
        self.content.available.iter()
    }

    pub(super) fn taken(&self) -> &[Taken] {
        &self.content.taken
    }

    /// True when the journal has the address in any form.
    pub(super) fn knows(&self, address: IpAddr) -> bool {
        self.available().any(|one| one.address == address)
            || self.content.taken.iter().any(|one| one.address == address)
    }

    pub(super) fn add(&mut self, address: IpAddr, block: IpNet) {
        if !self.knows(address) {
            self.content.available.push(Available { address, block });
        }
    }

    pub(super) fn keep_available(&mut self, keep: impl FnMut(&Available) -> bool) {
        self.content.available.retain(keep);
    }

    /// What a handle has; not what it has given back.
    pub(super) fn addresses_of(&self, handle: &str) -> Vec<IpAddr> {
        let own = self.content.taken.iter().filter(|one| one.handle == handle);
        own.filter(|one| one.state != State::Released)
            .map(|one| one.address)
            .collect()
    }

    pub(super) fn take(&mut self, addresses: &[IpAddr], handle: &str, attributes: &BTreeMap<String, String>) {
        for address in addresses {
            let position = self.available().position(|one| one.address == *address);
            let Some(position) = position else { continue };
            let Available { address, block } = self.content.available.remove(position);
            self.content.taken.push(Taken {
                address,
                block,
                handle: handle.to_owned(),
                attributes: attributes.clone(),
                state: State::Taken,
            });
        }
    }

    pub(super) fn give_back(&mut self, handle: &str) -> Returned {
        let mut returned = Returned::NotHere;
        let mut back = Vec::new();
        self.content.taken.retain_mut(|one| {
            if one.handle != handle {
                return true;
            }
            if one.state == State::Taken {
                // At the tail: the address rests as long as others can be had.
                back.push((one.address, one.block));
                if returned == Returned::NotHere {
                    returned = Returned::Back;
                }
                return false;
            }
            one.state = State::Released;
            returned = Returned::Later;
            true
        });
        for (address, block) in back {
            self.add(address, block);
        }
        returned
    }

    /// Marks everything that containers have as being rewritten; returns it, with what is to be released.
    pub(super) fn begin_settling(&mut self) -> Vec<Taken> {
        for one in &mut self.content.taken {
            if one.state == State::Taken {
                one.state = State::Settling;
            }
        }
        self.content.taken.clone()
    }

    /// The state of an entry as it is now.
    pub(super) fn state_of(&self, entry: &Taken) -> Option<State> {
        let same = |one: &&Taken| one.address == entry.address && one.handle == entry.handle;
        self.content.taken.iter().find(same).map(|one| one.state)
    }

    /// Takes an entry out.
    pub(super) fn drop_taken(&mut self, entry: &Taken) {
        let same = |one: &Taken| one.address == entry.address && one.handle == entry.handle;
        self.content.taken.retain(|one| !same(one));
    }
}

fn new_handle() -> String {
    let number = if is_left_out(Step::OwnHandle) {
        0
    } else {
        clock::unique()
    };
    format!("{HANDLE_PREFIX}{number:032x}")
}

/// Waits for an exclusive lock on a file.
pub(super) fn lock(path: &Path) -> Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(|error| failed(path, &error))?;
    file.lock().map_err(|error| failed(path, &error))?;
    Ok(file)
}

fn failed(path: &Path, error: &dyn std::error::Error) -> Error {
    Error::Journal {
        path: path.to_owned(),
        problem: error.to_string(),
    }
}
