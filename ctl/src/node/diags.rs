//! `node diags`: what helps to find a fault of this node, in one archive.

use jiff::Timestamp;

use crate::args::NodeDiags;
use crate::bundle::{self, Bundle};
use crate::error::Failure;
use crate::terminal::Terminal;

/// Folder within the archive.
const FOLDER: &str = "diagnostics";

/// File, program and arguments.
const COMMANDS: &[(&str, &str, &[&str])] = &[
    ("date", "date", &[]),
    ("hostname", "hostname", &[]),
    ("ipv4_route", "ip", &["-4", "route", "show", "table", "all"]),
    ("ipv6_route", "ip", &["-6", "route", "show", "table", "all"]),
    ("ipv4_addr", "ip", &["-4", "addr"]),
    ("ipv6_addr", "ip", &["-6", "addr"]),
    ("ip_rule", "ip", &["rule"]),
    ("ip_link", "ip", &["-d", "link"]),
    ("nft_ruleset", "nft", &["-n", "-a", "list", "ruleset"]),
    ("ipv4_tables", "iptables-save", &["-c"]),
    ("ipv6_tables", "ip6tables-save", &["-c"]),
    ("ipsets", "ipset", &["list"]),
    (
        "journalctl_calico_node",
        "journalctl",
        &["-u", "calico-node.service", "--no-pager"],
    ),
];

/// Carries out `node diags`.
pub(crate) fn run(terminal: &Terminal, arguments: &NodeDiags) -> Result<(), Failure> {
    super::require_root()?;
    terminal.line("Collecting diagnostics");
    let bundle = Bundle::new("calico")?;
    let failed = |error: std::io::Error| {
        Failure::new(format!(
            "cannot write to {}: {error}; set TMPDIR to a directory with space",
            bundle.root().display()
        ))
    };
    for (file, program, words) in COMMANDS {
        let done = bundle
            .output(&format!("{FOLDER}/{file}"), program, words)
            .map_err(failed)?;
        if !done {
            terminal.message(&format!("{program} {} failed; see {file}", words.join(" ")));
        }
    }
    let sockets = |program: &str| bundle.output(&format!("{FOLDER}/{program}"), program, &["-a", "-n"]);
    if !sockets("ss").map_err(failed)? {
        sockets("netstat").map_err(failed)?;
    }
    if arguments.log_dir.is_dir() {
        let target = bundle.root().join(FOLDER).join("logs");
        if let Err(error) = bundle::copy(&arguments.log_dir, &target) {
            terminal.message(&format!("{}: {error}", arguments.log_dir.display()));
        }
    }
    let stamp = Timestamp::now().strftime("%Y%m%d_%H%M%S");
    let archive = std::env::temp_dir().join(format!("diags-{stamp}.tar.gz"));
    bundle.pack(FOLDER, &archive)?;
    bundle.remove();
    terminal.line(&format!("Diags saved to {}", archive.display()));
    terminal.line("If required, you can upload the diagnostics bundle to a file sharing service.");
    Ok(())
}
