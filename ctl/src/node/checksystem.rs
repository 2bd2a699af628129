//! `node checksystem`: whether the kernel has what policy and routing need.
//!
//! A module is looked for among the loaded ones, those that can be loaded, those built in, and in the kernel's
//! configuration. What our own programs do not need and Calico's did is still shown: scripts read the list.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::args::NodeChecksystem;
use crate::error::Failure;
use crate::terminal::Terminal;

/// Oldest kernel that is supported.
const KERNEL_MIN: [u32; 3] = [2, 6, 24];
/// Longest file that is read, in bytes.
const FILE_LEN_MAX: u64 = 64 * 1024 * 1024;

/// A module by its names, the first one shown.
struct Module {
    names: &'static [&'static str],
    required: bool,
}

const fn required(names: &'static [&'static str]) -> Module {
    Module {
        names,
        required: true,
    }
}

const fn optional(names: &'static [&'static str]) -> Module {
    Module {
        names,
        required: false,
    }
}

const MODULES: &[Module] = &[
    required(&["ip_set"]),
    required(&["ip_tables"]),
    required(&["ipt_ipvs", "xt_ipvs"]),
    required(&["vfio-pci", "vfio_pci"]),
    required(&["ipt_REJECT", "xt_REJECT", "nft_reject"]),
    required(&["xt_rpfilter", "ipt_rpfilter"]),
    required(&["nf_conntrack_netlink"]),
    required(&["xt_addrtype"]),
    required(&["xt_conntrack"]),
    required(&["xt_mark"]),
    required(&["xt_multiport"]),
    required(&["xt_set", "ipt_set"]),
    optional(&["ip6_tables"]),
    optional(&["xt_bpf"]),
    optional(&["xt_u32"]),
];

/// Carries out `node checksystem`.
pub(crate) fn run(terminal: &Terminal, arguments: &NodeChecksystem) -> Result<(), Failure> {
    super::require_root()?;
    let release = read(Path::new("/proc/sys/kernel/osrelease")).unwrap_or_default();
    let release = release.trim();
    let system = System::look(Path::new("/"), release, arguments.kernel_config.as_deref())?;
    let mut is_sound = is_new_enough(release);
    terminal.line(&format!(
        "Checking kernel version...\n{}",
        row(release, word(is_sound, true))
    ));
    terminal.line("Checking kernel modules...");
    for module in MODULES {
        let has = module.names.iter().any(|name| system.has(name));
        is_sound &= has || !module.required;
        let name = module.names.first().copied().unwrap_or_default();
        terminal.line(&row(name, word(has, module.required)));
    }
    if is_sound {
        terminal.line("System meets minimum system requirements to run Calico!");
        return Ok(());
    }
    Err(Failure::new(
        "system doesn't meet one or more minimum systems requirements to run Calico",
    ))
}

const fn word(has: bool, required: bool) -> &'static str {
    match (has, required) {
        (true, _) => "OK",
        (false, true) => "FAIL",
        (false, false) => "SKIP",
    }
}

fn row(name: &str, word: &str) -> String {
    format!("\t\t{name:<20}\t\t\t\t\t{word}")
}

fn is_new_enough(release: &str) -> bool {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse::<u32>().unwrap_or_default());
    let version: [u32; 3] = std::array::from_fn(|_| numbers.next().unwrap_or_default());
    version >= KERNEL_MIN
}

/// What is known of a kernel.
#[derive(Debug, Default)]
struct System {
    modules: BTreeSet<String>,
    /// Options of the kernel's configuration that are built in or modules.
    options: BTreeSet<String>,
}

impl System {
    /// What is below `root` about a kernel.
    fn look(root: &Path, release: &str, config: Option<&Path>) -> Result<Self, Failure> {
        let mut system = Self::default();
        if let Ok(entries) = fs::read_dir(root.join("sys/module")) {
            let names = entries
                .flatten()
                .filter_map(|entry| entry.file_name().into_string().ok());
            system.modules.extend(names.map(|name| normal(&name)));
        }
        for line in read(&root.join("proc/modules")).unwrap_or_default().lines() {
            system.modules.extend(line.split(' ').next().map(normal));
        }
        for file in ["modules.dep", "modules.builtin"] {
            let path = root.join("lib/modules").join(release).join(file);
            for line in read(&path).unwrap_or_default().lines() {
                let path = line.split(':').next().unwrap_or_default();
                let name = path.rsplit('/').next().unwrap_or_default();
                system.modules.extend(name.split(".ko").next().map(normal));
            }
        }
        let text = match config {
            Some(path) => Some(read(path).map_err(|error| {
                Failure::new(format!(
                    "the kernel configuration {} cannot be read: {error}",
                    path.display()
                ))
            })?),
            None => configs(release)
                .iter()
                .find_map(|path| read(&root.join(path)).ok()),
        };
        for line in text.unwrap_or_default().lines() {
            if let Some((option, "y" | "m")) = line.split_once('=') {
                system.options.insert(option.to_owned());
            }
        }
        Ok(system)
    }

    fn has(&self, module: &str) -> bool {
        self.modules.contains(&normal(module))
            || options(module).iter().any(|option| self.options.contains(option))
    }
}

/// Module names with dashes and underscores are the same.
fn normal(name: &str) -> String {
    name.replace('-', "_")
}

/// The kernel options that make a module.
fn options(module: &str) -> Vec<String> {
    let name = normal(module).to_uppercase();
    let rest = name.split_once('_').map_or("", |(_, rest)| rest);
    match name.as_str() {
        "IP_SET" | "VFIO_PCI" => vec![format!("CONFIG_{name}")],
        "IP_TABLES" => vec!["CONFIG_IP_NF_IPTABLES".to_owned()],
        "IP6_TABLES" => vec!["CONFIG_IP6_NF_IPTABLES".to_owned()],
        "NF_CONNTRACK_NETLINK" => vec!["CONFIG_NF_CT_NETLINK".to_owned()],
        "XT_SET" => vec!["CONFIG_NETFILTER_XT_SET".to_owned()],
        "XT_MARK" => vec!["CONFIG_NETFILTER_XT_MARK".to_owned()],
        _ => vec![
            format!("CONFIG_NETFILTER_XT_MATCH_{rest}"),
            format!("CONFIG_NETFILTER_XT_TARGET_{rest}"),
            format!("CONFIG_IP_NF_TARGET_{rest}"),
            format!("CONFIG_IP_NF_MATCH_{rest}"),
        ],
    }
}

fn configs(release: &str) -> Vec<PathBuf> {
    [
        "usr/src/linux/.config".to_owned(),
        format!("boot/config-{release}"),
        format!("usr/src/linux-{release}/.config"),
        format!("usr/src/linux-headers-{release}/.config"),
        format!("lib/modules/{release}/build/.config"),
    ]
    .map(PathBuf::from)
    .to_vec()
}

fn read(path: &Path) -> std::io::Result<String> {
    let metadata = fs::metadata(path)?;
    if metadata.len() > FILE_LEN_MAX {
        return Err(std::io::Error::other("the file is too long"));
    }
    fs::read_to_string(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_found_in_every_place() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        fs::create_dir_all(root.join("sys/module/ip_set")).unwrap();
        write("proc/modules", "xt_mark 16384 1 - Live 0x0\n");
        write(
            "lib/modules/6.1/modules.dep",
            "kernel/net/xt_set.ko.xz: kernel/x.ko\n",
        );
        write("lib/modules/6.1/modules.builtin", "kernel/drivers/vfio-pci.ko\n");
        write(
            "boot/config-6.1",
            "CONFIG_IP_NF_IPTABLES=m\n# CONFIG_NETFILTER_XT_MATCH_BPF is not set\nCONFIG_NETFILTER_XT_MATCH_U32=y\n",
        );
        let system = System::look(root, "6.1", None).unwrap();
        for name in ["ip_set", "xt_mark", "xt_set", "vfio_pci", "ip_tables", "xt_u32"] {
            assert!(system.has(name), "{name}");
        }
        for name in ["xt_bpf", "ip6_tables", "xt_multiport"] {
            assert!(!system.has(name), "{name}");
        }
        assert!(System::look(root, "6.1", Some(Path::new("/nonexistent"))).is_err());
    }

    #[test]
    fn versions_are_compared_by_number() {
        for (release, expected) in [
            ("6.12.0-1-amd64", true),
            ("2.6.24", true),
            ("2.6.9-x", false),
            ("2.10", true),
            ("", false),
        ] {
            assert_eq!(is_new_enough(release), expected, "{release}");
        }
    }
}
