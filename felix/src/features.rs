//! What this machine has: the table programs of which variant, for which IP versions, and the kernel's IP sets.
//!
//! Owns the checks before anything is changed; each refusal is one line with a remedy. Source: Calico
//! `felix/environment/feature_detect_linux.go`.

use std::path::Path;
use std::time::Duration;

use caracal_felix_core::desired::{Backend, IpVersion};
use caracal_felix_core::render::iptables::Features;
use caracal_felix_core::render::nftables::TABLE;
use caracal_linux::ipset::{IpSets, SetType};
use caracal_linux::nftables::{Family, Nftables, TableId};

use crate::exec::CommandRunner;

const PROGRAM_TIMEOUT: Duration = Duration::from_secs(20);
/// Chains by which the kubelet shows which variant the machine uses.
const HINTS: [&str; 2] = ["KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY"];
/// First version whose MASQUERADE knows `--random-fully`.
const RANDOM_FULLY_SINCE: (u32, u32, u32) = (1, 6, 2);

/// Which kernel interface the table programs use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// nftables, by `iptables-nft-*`.
    Nft,
    /// The old tables, by `iptables-legacy-*`.
    Legacy,
}

impl Variant {
    const fn word(self) -> &'static str {
        match self {
            Self::Nft => "nft",
            Self::Legacy => "legacy",
        }
    }
}

/// Programs of one IP version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commands {
    /// Prints the tables.
    pub save: String,
    /// Writes tables.
    pub restore: String,
}

/// The table programs of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    /// What they write to.
    pub variant: Variant,
    /// For IPv4.
    pub v4: Commands,
    /// For IPv6, if the machine has it.
    pub v6: Option<Commands>,
    /// What they can do.
    pub features: Features,
}

impl Programs {
    /// The programs of an IP version.
    #[must_use]
    pub const fn commands(&self, version: IpVersion) -> Option<&Commands> {
        match version {
            IpVersion::V4 => Some(&self.v4),
            IpVersion::V6 => self.v6.as_ref(),
        }
    }
}

/// What packets are filtered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilterKind {
    /// iptables, by these programs, with IP sets.
    Iptables(Programs),
    /// nftables, by netlink.
    Nftables {
        /// IPv6 too.
        has_v6: bool,
    },
}

/// Programs by their full names that show and write what a variant holds, for both IP versions.
#[must_use]
pub fn leftover_commands(variant: Variant) -> [Commands; 2] {
    ["iptables", "ip6tables"].map(|family| {
        let prefix = format!("{family}-{}", variant.word());
        Commands {
            save: format!("{prefix}-save"),
            restore: format!("{prefix}-restore"),
        }
    })
}

/// Decides what packets are filtered with. `mode` is FelixConfiguration's nftablesMode; with Auto (or none) it is what
/// kube-proxy uses, which its table tells.
///
/// # Errors
/// When the mode is not known, or nftables is wanted and the kernel has none.
pub fn choose_backend(mode: Option<&str>) -> Result<Backend, Refusal> {
    let is_nftables = match mode.unwrap_or_default().to_ascii_lowercase().as_str() {
        "enabled" => {
            let asked = Nftables::open().and_then(|mut kernel| kernel.has_table(table_of(TABLE, Family::Ip)));
            asked.map_err(|error| Refusal::NoNftables(error.to_string()))?;
            true
        }
        "disabled" => false,
        "" | "auto" => has_kube_proxy_table(),
        _ => return Err(Refusal::Mode(mode.unwrap_or_default().to_owned())),
    };
    Ok(if is_nftables {
        Backend::Nftables
    } else {
        Backend::Iptables
    })
}

const fn table_of(name: &str, family: Family) -> TableId<'_> {
    TableId { family, name }
}

/// Asks for the table by its name; no other is looked at.
fn has_kube_proxy_table() -> bool {
    let Ok(mut kernel) = Nftables::open() else {
        return false;
    };
    let mut has = |family| kernel.has_table(table_of("kube-proxy", family)).unwrap_or(false);
    has(Family::Ip) || has(Family::Ip6)
}

/// True when the machine has IPv6.
#[must_use]
pub fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

/// Why this machine cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Not allowed to change the network.
    #[error(
        "felix must run as root (or with CAP_NET_ADMIN and CAP_NET_RAW): it programs routes, IP sets and iptables"
    )]
    NotRoot,
    /// No table programs.
    #[error("iptables-restore is not installed (looked for {0}); install the package iptables")]
    NoPrograms(String),
    /// The kernel lacks IP sets.
    #[error(
        "the kernel has no IP sets of type {kind} ({problem}); load the modules ip_set, ip_set_hash_ip, ip_set_hash_net and ip_set_hash_ipport"
    )]
    NoIpSets {
        /// Missing type.
        kind: &'static str,
        /// The kernel's answer.
        problem: String,
    },
    /// The kernel lacks nftables.
    #[error(
        "nftablesMode is Enabled and the kernel has no nftables ({0}); load the module nf_tables or set it to Disabled"
    )]
    NoNftables(String),
    /// A mode that is not known.
    #[error("nftablesMode has value {0:?}: write Auto, Enabled or Disabled")]
    Mode(String),
    /// A backend that is not known.
    #[error("iptablesBackend has value {0:?}: write Auto, NFT or Legacy")]
    Backend(String),
}

/// Checks rights and the kernel.
///
/// # Errors
/// When felix could program nothing here.
pub fn check_kernel() -> Result<(), Refusal> {
    match check_ip_sets() {
        // Only iptables needs them.
        Err(Refusal::NoIpSets { .. }) if choose_backend(Some("Enabled")).is_ok() => Ok(()),
        result => result,
    }
}

fn check_ip_sets() -> Result<(), Refusal> {
    let mut sets = IpSets::open().map_err(|error| no_sets(SetType::HashNet, &error))?;
    for kind in [
        SetType::HashNet,
        SetType::HashIp,
        SetType::HashIpPort,
        SetType::HashNetPort,
    ] {
        match sets.check_support(kind) {
            Ok(()) => {}
            Err(error) if error.is_permission() => return Err(Refusal::NotRoot),
            Err(error) => return Err(no_sets(kind, &error)),
        }
    }
    Ok(())
}

fn no_sets(kind: SetType, error: &caracal_linux::Error) -> Refusal {
    Refusal::NoIpSets {
        kind: kind.name(),
        problem: error.to_string(),
    }
}

/// Finds the table programs. `backend` is FelixConfiguration's iptablesBackend.
///
/// # Errors
/// When there are none, or the backend is not known.
pub async fn find_programs(
    runner: &impl CommandRunner,
    backend: Option<&str>,
    wants_v6: bool,
) -> Result<Programs, Refusal> {
    let wanted = backend.unwrap_or_default().to_ascii_lowercase();
    let variant = match wanted.as_str() {
        "nft" => Variant::Nft,
        "legacy" => Variant::Legacy,
        "" | "auto" => guess(runner).await?,
        _ => return Err(Refusal::Backend(backend.unwrap_or_default().to_owned())),
    };
    let (v4, version) = commands(runner, "iptables", variant).await?;
    let has_v6 = wants_v6 && has_ipv6();
    let v6 = if has_v6 {
        let found = commands(runner, "ip6tables", variant).await;
        found.ok().map(|(commands, _)| commands)
    } else {
        None
    };
    if has_v6 && v6.is_none() {
        tracing::warn!(
            "ip6tables is not installed, IPv6 traffic is not guarded; install it or set ipv6Support to false"
        );
    }
    let features = Features {
        random_fully: version >= RANDOM_FULLY_SINCE,
    };
    Ok(Programs {
        variant,
        v4,
        v6,
        features,
    })
}

/// The programs of a variant: by their full names, else by the short ones if these are of the variant.
async fn commands(
    runner: &impl CommandRunner,
    family: &str,
    variant: Variant,
) -> Result<(Commands, (u32, u32, u32)), Refusal> {
    let full = format!("{family}-{}", variant.word());
    for prefix in [full.as_str(), family] {
        let restore = format!("{prefix}-restore");
        let Some(text) = version_text(runner, &restore).await else {
            continue;
        };
        if prefix == full || variant_of(&text) == variant {
            let save = format!("{prefix}-save");
            return Ok((Commands { save, restore }, version_of(&text)));
        }
    }
    Err(Refusal::NoPrograms(format!(
        "{full}-restore and {family}-restore"
    )))
}

async fn version_text(runner: &impl CommandRunner, program: &str) -> Option<String> {
    let output = runner
        .run(&[program, "--version"], "", PROGRAM_TIMEOUT)
        .await
        .ok()?;
    (output.code == Some(0)).then_some(output.stdout)
}

/// The variant that a version text names; old programs name none.
fn variant_of(text: &str) -> Variant {
    if text.contains("nf_tables") {
        Variant::Nft
    } else {
        Variant::Legacy
    }
}

fn version_of(text: &str) -> (u32, u32, u32) {
    let word = text.split_whitespace().find_map(|word| word.strip_prefix('v'));
    let mut numbers = word
        .unwrap_or_default()
        .split('.')
        .map(|number| number.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next(), next())
}

/// Which variant the machine uses: the one the kubelet uses, else the one with more rules, else what `iptables` is.
async fn guess(runner: &impl CommandRunner) -> Result<Variant, Refusal> {
    let usual = version_text(runner, "iptables-restore").await;
    let nft = saved(runner, Variant::Nft).await;
    let legacy = saved(runner, Variant::Legacy).await;
    let (nft, legacy) = match (nft, legacy) {
        (None, None) => {
            return match usual {
                Some(text) => Ok(variant_of(&text)),
                None => Err(Refusal::NoPrograms("iptables-restore".to_owned())),
            };
        }
        (Some(_), None) => return Ok(Variant::Nft),
        (None, Some(_)) => return Ok(Variant::Legacy),
        (Some(nft), Some(legacy)) => (nft, legacy),
    };
    let has_hint = |text: &String| HINTS.iter().any(|hint| text.contains(hint));
    let rules = |text: &String| text.lines().filter(|line| line.starts_with('-')).count();
    Ok(match (has_hint(&nft), has_hint(&legacy)) {
        (true, false) => Variant::Nft,
        (false, true) => Variant::Legacy,
        _ => match rules(&nft).cmp(&rules(&legacy)) {
            std::cmp::Ordering::Greater => Variant::Nft,
            std::cmp::Ordering::Less => Variant::Legacy,
            std::cmp::Ordering::Equal => usual.as_deref().map_or(Variant::Nft, variant_of),
        },
    })
}

async fn saved(runner: &impl CommandRunner, variant: Variant) -> Option<String> {
    let program = format!("iptables-{}-save", variant.word());
    let output = runner.run(&[&program], "", PROGRAM_TIMEOUT).await.ok()?;
    (output.code == Some(0)).then_some(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::{Error, Output};
    use std::collections::BTreeMap;

    /// Knows some programs by what they print.
    struct Machine(BTreeMap<&'static str, &'static str>);

    impl CommandRunner for Machine {
        async fn run(&self, argv: &[&str], _: &str, _: Duration) -> Result<Output, Error> {
            let stdout = self.0.get(argv[0]).ok_or_else(|| Error::Start {
                program: argv[0].to_owned(),
                source: std::io::ErrorKind::NotFound.into(),
            })?;
            Ok(Output {
                code: Some(0),
                stdout: (*stdout).to_owned(),
                stderr: String::new(),
            })
        }
    }

    const NFT: &str = "iptables v1.8.9 (nf_tables)\n";
    const LEGACY: &str = "iptables v1.8.9 (legacy)\n";

    async fn variant(
        programs: &[(&'static str, &'static str)],
        backend: Option<&str>,
    ) -> Result<Programs, Refusal> {
        let machine = Machine(programs.iter().copied().collect());
        find_programs(&machine, backend, false).await
    }

    #[tokio::test]
    async fn the_variant_with_the_kubelets_hint_wins_then_the_one_with_rules_then_the_usual() {
        let both = [
            ("iptables-restore", LEGACY),
            ("iptables-nft-restore", NFT),
            ("iptables-legacy-restore", LEGACY),
            (
                "iptables-nft-save",
                "*mangle\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT\n",
            ),
            ("iptables-legacy-save", "*filter\n-A INPUT -j DROP\n"),
        ];
        assert_eq!(variant(&both, None).await.unwrap().variant, Variant::Nft);
        let mut no_hint = both;
        no_hint[3].1 = "";
        assert_eq!(
            variant(&no_hint, Some("Auto")).await.unwrap().variant,
            Variant::Legacy
        );
        no_hint[4].1 = "";
        no_hint[0].1 = NFT;
        let programs = variant(&no_hint, None).await.unwrap();
        assert_eq!(
            (
                programs.variant,
                programs.v4.restore.as_str(),
                programs.features.random_fully
            ),
            (Variant::Nft, "iptables-nft-restore", true)
        );
        assert_eq!(
            variant(&no_hint, Some("LEGACY")).await.unwrap().variant,
            Variant::Legacy
        );
    }

    #[tokio::test]
    async fn what_is_missing_or_unknown_is_refused_in_one_line() {
        let refusal = variant(&[], None).await.unwrap_err().to_string();
        assert!(
            refusal.contains("install the package iptables") && !refusal.contains('\n'),
            "{refusal}"
        );
        assert_eq!(
            variant(&[("iptables-restore", NFT)], Some("pf")).await,
            Err(Refusal::Backend("pf".to_owned()))
        );
        let refusal = variant(&[("iptables-restore", NFT)], Some("legacy")).await;
        assert!(matches!(refusal, Err(Refusal::NoPrograms(_))), "{refusal:?}");
    }
}
