//! Results of ADD, kept until DEL: the plugins get them again, and with them the configuration they had then.
//!
//! The file's form and name are those of the reference library (`cniCacheV1`, `libcni/api.go`), so that its tools
//! understand them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::conf::Conflist;
use super::{Attachment, IFNAME};
use crate::error::{Error, Result};
use crate::state::{StateError, read_json, write_json};

const KIND: &str = "cniCacheV1";

/// A cached result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cached {
    kind: String,
    container_id: String,
    config: String,
    if_name: String,
    network_name: String,
    netns: String,
    cni_args: Vec<(String, String)>,
    /// Values for capabilities.
    #[serde(default, rename = "capabilityArgs")]
    pub capabilities: BTreeMap<String, Value>,
    /// The last plugin's result.
    pub result: Value,
}

impl Cached {
    /// The result of plugging in a container.
    #[must_use]
    pub fn new(list: &Conflist, attachment: &Attachment, result: Value) -> Self {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        Self {
            kind: KIND.to_owned(),
            container_id: attachment.container_id.clone(),
            config: STANDARD.encode(list.text()),
            if_name: IFNAME.to_owned(),
            network_name: list.name().to_owned(),
            netns: attachment.netns.display().to_string(),
            cni_args: vec![
                pair("IgnoreUnknown", "1"),
                pair("K8S_POD_NAMESPACE", &attachment.namespace),
                pair("K8S_POD_NAME", &attachment.name),
                pair("K8S_POD_INFRA_CONTAINER_ID", &attachment.container_id),
                pair("K8S_POD_UID", &attachment.uid),
            ],
            capabilities: attachment.capabilities.clone(),
            result,
        }
    }

    /// The file of a container's result.
    #[must_use]
    pub fn file(folder: &Path, network: &str, container_id: &str) -> PathBuf {
        folder.join(format!("{network}-{container_id}-{IFNAME}"))
    }

    /// Keeps it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn store(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).map_err(|e| Error::io(format!("create {}", folder.display()), e))?;
        let file = Self::file(folder, &self.network_name, &self.container_id);
        Ok(write_json(&file, self)?)
    }

    /// The result of a container, whatever its network was called. A damaged file counts as none: DEL must work
    /// without.
    ///
    /// # Errors
    /// The folder or file cannot be read.
    pub fn find(folder: &Path, container_id: &str) -> Result<Option<Self>> {
        let failed = |e| Error::io(format!("read {}", folder.display()), e);
        let entries = match fs::read_dir(folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(failed)?,
        };
        let end = format!("-{container_id}-{IFNAME}");
        for entry in entries {
            let entry = entry.map_err(failed)?;
            if !entry.file_name().to_string_lossy().ends_with(&end) {
                continue;
            }
            return match read_json::<Self>(&entry.path()) {
                Ok(cached) => Ok(Some(cached).filter(|cached| cached.kind == KIND)),
                Err(StateError::Format { .. }) => Ok(None),
                Err(error) => Err(error.into()),
            };
        }
        Ok(None)
    }

    /// The configuration it was made with.
    ///
    /// # Errors
    /// It cannot be read any more.
    pub fn conflist(&self) -> Result<Conflist, String> {
        let text = STANDARD.decode(&self.config).map_err(|e| e.to_string())?;
        Conflist::parse(&text)
    }
}

/// Forgets a result. None there is success.
pub(super) fn remove(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(Error::io(format!("remove {}", file.display()), e))
        }
        _ => Ok(()),
    }
}
