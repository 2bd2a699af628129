//! Network configuration lists: found in a folder, checked, and turned into what each plugin reads.
//!
//! Pure apart from [`Conflist::load`]. Source: CNI specification 1.0.0, §1 "Network configuration format" and §4
//! "Plugin configuration objects"; the choice of the file as `libcni` and containerd make it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfError {
    /// There is none.
    #[error("no CNI configuration in {}: put a .conflist file there", .0.display())]
    None(PathBuf),
    /// The folder or file cannot be read.
    #[error("CNI configuration {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file says something wrong.
    #[error("CNI configuration {}: {problem}", path.display())]
    Wrong {
        /// Which.
        path: PathBuf,
        /// Field, value, and what would be right.
        problem: String,
    },
}

/// One plugin of a chain.
#[derive(Clone, Debug, PartialEq)]
pub struct Plugin {
    /// Its `type`: the name of its program.
    pub kind: String,
    conf: Map<String, Value>,
}

/// A chain of plugins with a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Conflist {
    name: String,
    version: String,
    disable_check: bool,
    plugins: Vec<Plugin>,
    text: Vec<u8>,
}

impl Conflist {
    /// The configuration of a node: the first file by name that is one, as a runtime chooses.
    ///
    /// # Errors
    /// There is none, or the first is wrong.
    pub fn load(folder: &Path) -> Result<Self, ConfError> {
        let path = first_file(folder)?;
        let text = fs::read(&path).map_err(|source| ConfError::Read {
            path: path.clone(),
            source,
        })?;
        Self::parse(&text).map_err(|problem| ConfError::Wrong { path, problem })
    }

    /// Reads a list, or a single plugin's configuration as a list of one.
    ///
    /// # Errors
    /// What is wrong, with its field.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let mut root: Map<String, Value> = serde_json::from_slice(text).map_err(|e| e.to_string())?;
        let plugins = match root.remove("plugins") {
            Some(Value::Array(list)) => list,
            Some(other) => return Err(format!("plugins: {other} is not a list")),
            None if root.contains_key("type") => vec![Value::Object(root.clone())],
            None => return Err("plugins: missing; a list of plugins is required".to_owned()),
        };
        if plugins.is_empty() {
            return Err("plugins: the list is empty; it needs at least one plugin".to_owned());
        }
        let plugins = plugins
            .into_iter()
            .enumerate()
            .map(|(index, plugin)| Plugin::parse(index, plugin))
            .collect::<Result<_, _>>()?;
        let version = match root.get("cniVersion") {
            None => "0.1.0".to_owned(),
            Some(value) => version(value)?,
        };
        Ok(Self {
            name: network_name(root.get("name"))?,
            version,
            disable_check: root
                .get("disableCheck")
                .is_some_and(|value| value == &json!(true)),
            plugins,
            text: text.to_owned(),
        })
    }

    /// The network's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its plugins, in the order of ADD; at least one.
    #[must_use]
    pub fn plugins(&self) -> &[Plugin] {
        &self.plugins
    }

    /// The file's text.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Whether the chain can be checked.
    #[must_use]
    pub fn checks(&self) -> bool {
        !self.disable_check && self.version_at_least(0, 4)
    }

    /// Whether the list's version is that or a later one.
    #[must_use]
    pub fn version_at_least(&self, major: u64, minor: u64) -> bool {
        let mut numbers = self.version.split('.').map(|part| part.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
    }

    /// What a plugin reads: its own configuration, the list's name and version, the result before it, and a value for
    /// each capability it declares.
    #[must_use]
    pub fn stdin(
        &self,
        plugin: &Plugin,
        previous: Option<&Value>,
        capabilities: &BTreeMap<String, Value>,
    ) -> Vec<u8> {
        let mut conf = plugin.conf.clone();
        conf.insert("name".to_owned(), json!(self.name));
        conf.insert("cniVersion".to_owned(), json!(self.version));
        let given: Map<String, Value> = capabilities
            .iter()
            .filter(|(name, _)| plugin.declares(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if !given.is_empty() {
            conf.insert("runtimeConfig".to_owned(), Value::Object(given));
        }
        if let Some(previous) = previous {
            conf.insert("prevResult".to_owned(), previous.clone());
        }
        Value::Object(conf).to_string().into_bytes()
    }
}

impl Plugin {
    fn parse(index: usize, plugin: Value) -> Result<Self, String> {
        let Value::Object(conf) = plugin else {
            return Err(format!("plugins[{index}]: {plugin} is not an object"));
        };
        let kind = conf.get("type").and_then(Value::as_str).unwrap_or_default();
        // The type becomes a path: it must not leave the folder of plugins.
        if kind.is_empty() || kind.contains('/') || kind == "." || kind == ".." {
            return Err(format!(
                "plugins[{index}].type: {kind:?} is not the file name of a plugin"
            ));
        }
        Ok(Self {
            kind: kind.to_owned(),
            conf,
        })
    }

    fn declares(&self, capability: &str) -> bool {
        let declared = self.conf.get("capabilities").and_then(|all| all.get(capability));
        declared == Some(&json!(true))
    }
}

fn version(value: &Value) -> Result<String, String> {
    let text = value.as_str().unwrap_or_default();
    let parts: Vec<&str> = text.split('.').collect();
    if parts.len() == 3 && parts.iter().all(|part| part.parse::<u64>().is_ok()) {
        return Ok(text.to_owned());
    }
    Err(format!("cniVersion: {value} is not a version such as \"1.0.0\""))
}

fn network_name(value: Option<&Value>) -> Result<String, String> {
    let name = value.and_then(Value::as_str).unwrap_or_default();
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(allowed) {
        return Ok(name.to_owned());
    }
    Err(format!(
        "name: {name:?}; a network's name is letters, digits, '_', '.' and '-', beginning with a letter or digit"
    ))
}

fn first_file(folder: &Path) -> Result<PathBuf, ConfError> {
    let failed = |source| ConfError::Read {
        path: folder.to_owned(),
        source,
    };
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(ConfError::None(folder.to_owned())),
        other => other.map_err(failed)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let end = path.extension().and_then(|end| end.to_str()).unwrap_or_default();
        if matches!(end, "conflist" | "conf" | "json") {
            files.push(path);
        }
    }
    files
        .into_iter()
        .min()
        .ok_or_else(|| ConfError::None(folder.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &[u8] = br#"{"cniVersion": "1.0.0", "name": "net", "plugins": [
        {"type": "calico", "ipam": {"type": "calico-ipam"}},
        {"type": "portmap", "snat": true, "capabilities": {"portMappings": true, "bandwidth": false}}]}"#;

    fn stdin(index: usize, previous: Option<&Value>) -> Value {
        let list = Conflist::parse(LIST).unwrap();
        let capabilities = BTreeMap::from([
            ("portMappings".to_owned(), json!([{"hostPort": 80}])),
            ("bandwidth".to_owned(), json!({"ingressRate": 1})),
        ]);
        serde_json::from_slice(&list.stdin(&list.plugins()[index], previous, &capabilities)).unwrap()
    }

    #[test]
    fn a_plugin_reads_its_own_configuration_and_what_the_runtime_adds() {
        assert_eq!(
            stdin(0, None),
            json!({"type": "calico", "ipam": {"type": "calico-ipam"}, "name": "net", "cniVersion": "1.0.0"})
        );
        assert_eq!(
            stdin(1, Some(&json!({"ips": []}))),
            json!({"type": "portmap", "snat": true, "name": "net", "cniVersion": "1.0.0",
                "capabilities": {"portMappings": true, "bandwidth": false},
                "runtimeConfig": {"portMappings": [{"hostPort": 80}]}, "prevResult": {"ips": []}})
        );
    }

    #[test]
    fn the_version_decides_what_a_chain_can_do() {
        for (version, at_least, checks) in [
            ("0.3.1", false, false),
            ("0.4.0", true, true),
            ("1.0.0", true, true),
        ] {
            let text = format!(r#"{{"cniVersion": "{version}", "name": "n", "type": "a"}}"#);
            let list = Conflist::parse(text.as_bytes()).unwrap();
            assert_eq!(
                (list.version_at_least(0, 4), list.checks()),
                (at_least, checks),
                "{version}"
            );
        }
        let text =
            br#"{"cniVersion": "1.0.0", "name": "n", "disableCheck": true, "plugins": [{"type": "a"}]}"#;
        assert!(!Conflist::parse(text).unwrap().checks());
    }

    #[test]
    fn wrong_lists_are_refused_by_field() {
        for (text, field) in [
            (r#"{"name": "n"}"#, "plugins: missing"),
            (r#"{"name": "n", "plugins": []}"#, "plugins: the list is empty"),
            (r#"{"name": "n", "plugins": 3}"#, "plugins: 3"),
            (r#"{"name": "n", "plugins": [1]}"#, "plugins[0]: 1"),
            (
                r#"{"name": "n", "plugins": [{"type": "../sh"}]}"#,
                "plugins[0].type",
            ),
            (r#"{"plugins": [{"type": "a"}]}"#, "name: \"\""),
            (r#"{"name": "a/b", "plugins": [{"type": "a"}]}"#, "name: \"a/b\""),
            (
                r#"{"name": "n", "cniVersion": "one", "plugins": [{"type": "a"}]}"#,
                "cniVersion: \"one\"",
            ),
        ] {
            let message = Conflist::parse(text.as_bytes()).unwrap_err();
            assert!(message.starts_with(field), "{text}: {message}");
        }
        assert!(Conflist::parse(b"{").is_err());
    }

    #[test]
    fn the_first_file_by_name_is_taken_and_others_are_not_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Conflist::load(dir.path()), Err(ConfError::None(_))));
        for (name, network) in [
            ("00-notes.txt", "no"),
            ("20-b.conflist", "second"),
            ("10-a.conflist", "first"),
        ] {
            let text = format!(r#"{{"name": "{network}", "plugins": [{{"type": "a"}}]}}"#);
            fs::write(dir.path().join(name), text).unwrap();
        }
        assert_eq!(Conflist::load(dir.path()).unwrap().name(), "first");
    }
}
