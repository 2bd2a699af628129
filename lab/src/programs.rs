//! Where the programs are that a lab starts.
//!
//! Our own lie beside the running one (or in the folder named by `CARACAL_BIN_DIR`); others are found by `PATH`,
//! to which the folders of system programs are added because a user's `PATH` often lacks them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::kube;
use crate::topology::{Component, Kube, Options, Tor};

/// Names the folder of our own programs.
pub const FOLDER: &str = "CARACAL_BIN_DIR";
/// Folders in which CNI plugins of others are looked for.
const CNI_FOLDERS: &[&str] = &["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"];
const SYSTEM_FOLDERS: &[&str] = &["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// Finds every program a lab needs, or says all that is missing in one line.
///
/// # Errors
/// Something is missing; the text says how to get it.
pub fn find(options: &Options) -> Result<BTreeMap<String, PathBuf>> {
    let folder = own_folder()?;
    let mut found = BTreeMap::new();
    let mut missing = Vec::new();
    let mut ours = vec!["caracal-lab", "caracal-apiserver", "calico", "calico-ipam"];
    ours.extend(options.runs(Component::Felix).then_some("caracal-felix"));
    ours.extend(options.runs(Component::Bgpd).then_some("caracal-bgpd"));
    for name in ours {
        let path = folder.join(name);
        if is_program(&path) {
            found.insert(name.to_owned(), path);
        } else {
            missing.push(name);
        }
    }
    if !missing.is_empty() {
        return Err(Error::refused(format!(
            "{} missing in {}; run `make build`, or name the folder of the programs in {FOLDER}",
            missing.join(", "),
            folder.display()
        )));
    }
    if options.kube == Kube::Real {
        let programs = kube::programs()?;
        found.extend(programs.map(|(name, path)| (name.to_owned(), path)));
    }
    let mut others = vec![("ip", "iproute2"), ("iptables-restore", "iptables")];
    if options.tor == Tor::Bird {
        others.extend([("bird", "bird2"), ("birdc", "bird2")]);
    }
    if options.kube == Kube::Real {
        others.push(("nsenter", "util-linux"));
    }
    for (name, package) in others {
        let path = on_path(name).ok_or_else(|| {
            Error::refused(format!(
                "program {name} is missing; install it: apt-get install {package}"
            ))
        })?;
        found.insert(name.to_owned(), path);
    }
    let portmap = cni_plugin("portmap").ok_or_else(|| {
        Error::refused(
            "CNI plugin portmap is missing; install it: apt-get install containernetworking-plugins",
        )
    })?;
    found.insert("portmap".to_owned(), portmap);
    Ok(found)
}

/// The folder of our own programs.
///
/// # Errors
/// The running program cannot be found.
pub fn own_folder() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os(FOLDER).filter(|value| !value.is_empty()) {
        return Ok(PathBuf::from(folder));
    }
    let exe = std::env::current_exe().map_err(|e| Error::io("find the running program", e))?;
    let folder = exe.parent().unwrap_or(Path::new("/"));
    // A test runs from target/PROFILE/deps: the programs it drives are built by `make build`.
    if folder.file_name().is_some_and(|name| name == "deps") {
        let release = folder.ancestors().nth(2).map(|target| target.join("release"));
        return Ok(release.unwrap_or_else(|| folder.to_owned()));
    }
    Ok(folder.to_owned())
}

/// A program by name.
#[must_use]
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(SYSTEM_FOLDERS.iter().map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|path| is_program(path))
}

fn cni_plugin(name: &str) -> Option<PathBuf> {
    CNI_FOLDERS
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| is_program(path))
}

/// `PATH` for what runs in the lab: the caller's, system folders, and ours.
#[must_use]
pub fn search_path() -> String {
    let mut folders: Vec<PathBuf> =
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    let further = SYSTEM_FOLDERS.iter().map(PathBuf::from).chain(own_folder().ok());
    for folder in further {
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    std::env::join_paths(folders)
        .ok()
        .and_then(|path| path.into_string().ok())
        .unwrap_or_else(|| SYSTEM_FOLDERS.join(":"))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_and_others_are_not() {
        assert!(on_path("sh").is_some());
        assert!(on_path("no-such-program-anywhere").is_none());
        assert!(search_path().contains("/usr/sbin"));
    }
}
