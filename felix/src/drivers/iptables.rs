//! iptables tables: what `iptables-save` printed, compared with what is wanted, as one input of `iptables-restore`.
//!
//! Pure: text in, text out. Source: `iptables-save(8)`, Calico `felix/iptables/table.go`.
//!
//! # Ownership
//! Chains whose names begin with `cali-` (or a prefix of older agents) are ours with all rules in them. In any other
//! chain exactly the rules with a comment `cali:<hash>` are ours; the rest is never touched and keeps its order.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use caracal_felix_core::render::iptables::RenderedRule;

const CHAIN_PREFIXES: [&str; 7] = [
    "cali-", "califw-", "calitw-", "califh-", "calith-", "calipi-", "calipo-",
];

/// Rules of one chain in the kernel: the hash of each, `None` for rules without one.
pub type Hashes = Vec<Option<String>>;

/// A table as the kernel has it: all chains, ours and foreign.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Present {
    /// Chains with the hashes of their rules.
    pub chains: BTreeMap<String, Hashes>,
    /// Our rules in chains of the kernel, as text.
    pub insertions: BTreeMap<String, Vec<String>>,
}

/// A table as it is wanted.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Wanted {
    /// Our chains.
    pub chains: BTreeMap<String, Vec<RenderedRule>>,
    /// Our rules in the kernel's chains.
    pub kernel_chains: BTreeMap<String, Insertions>,
}

/// Our rules in one chain of the kernel.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Insertions {
    /// At the beginning.
    pub first: Vec<RenderedRule>,
    /// At the end.
    pub last: Vec<RenderedRule>,
}

/// Why the output of `iptables-save` cannot be trusted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// The table is not closed by COMMIT.
    #[error("the listing of table {0} ends early")]
    Truncated(String),
    /// The table has parts that the program cannot show.
    #[error(
        "table {0} has native nftables rules that iptables cannot list; move them to a table of their own"
    )]
    Incompatible(String),
    /// A rule of a chain that was not declared.
    #[error("line {0} of the listing cannot be read")]
    Line(usize),
}

/// Reads one table from the output of `iptables-save`. A table that is not in the output is empty.
///
/// # Errors
/// When the output is cut or the table cannot be listed completely: trusting it would write everything again.
pub fn parse(output: &str, table: &str) -> Result<Present, ParseError> {
    let mut present = Present::default();
    let mut inside = false;
    for (number, line) in output.lines().enumerate() {
        if let Some(name) = line.strip_prefix('*') {
            if inside {
                return Err(ParseError::Truncated(table.to_owned()));
            }
            inside = name.trim() == table;
        } else if line.starts_with('#') {
            if line.contains(&format!("`{table}' is incompatible")) {
                return Err(ParseError::Incompatible(table.to_owned()));
            }
        } else if !inside {
            continue;
        } else if line.trim() == "COMMIT" {
            inside = false;
        } else if let Some(declared) = line.strip_prefix(':') {
            let name = declared.split(' ').next().unwrap_or_default();
            present.chains.entry(name.to_owned()).or_default();
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let (chain, rest) = rule.split_once(' ').unwrap_or((rule, ""));
            let rules = present
                .chains
                .get_mut(chain)
                .ok_or(ParseError::Line(number + 1))?;
            let hash = hash_of(rest);
            if hash.is_some() && !is_ours(chain) {
                present
                    .insertions
                    .entry(chain.to_owned())
                    .or_default()
                    .push(rest.to_owned());
            }
            rules.push(hash);
        } else if !line.trim().is_empty() {
            return Err(ParseError::Line(number + 1));
        }
    }
    if inside {
        return Err(ParseError::Truncated(table.to_owned()));
    }
    Ok(present)
}

/// The hash in a rule's comment. The comment must begin with the mark: a foreign text may contain it.
fn hash_of(rule: &str) -> Option<String> {
    rule.split("--comment ").skip(1).find_map(|text| {
        let text = text.strip_prefix('"').unwrap_or(text).strip_prefix("cali:")?;
        let is_digit = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let hash: String = text.chars().take_while(is_digit).collect();
        (!hash.is_empty()).then_some(hash)
    })
}

/// A chain of ours by its name.
pub fn is_ours(chain: &str) -> bool {
    CHAIN_PREFIXES.iter().any(|prefix| chain.starts_with(prefix))
}

/// The input of `iptables-restore --noflush` that turns one into the other, `None` when nothing differs. Left-over
/// chains are removed only if `delete`. One transaction: no packet sees a state between.
pub fn plan(table: &str, present: &Present, wanted: &Wanted, delete: bool) -> Option<String> {
    let left_over: BTreeSet<&str> = present
        .chains
        .keys()
        .map(String::as_str)
        .filter(|name| delete && is_ours(name) && !wanted.chains.contains_key(*name))
        .collect();
    let mut declarations = String::new();
    let mut changes = String::new();
    for name in wanted
        .chains
        .keys()
        .filter(|name| !present.chains.contains_key(*name))
    {
        line(&mut declarations, format_args!(":{name} - -"));
    }
    // A declaration empties a chain that exists; its rules may name other chains that go.
    for name in &left_over {
        line(&mut declarations, format_args!(":{name} - -"));
    }
    let empty = Vec::new();
    for (name, rules) in &wanted.chains {
        own_chain(
            &mut changes,
            name,
            present.chains.get(name).unwrap_or(&empty),
            rules,
        );
    }
    let none = Insertions::default();
    let names = present.chains.keys().chain(wanted.kernel_chains.keys());
    for name in names.filter(|name| !is_ours(name)).collect::<BTreeSet<_>>() {
        let wanted = wanted.kernel_chains.get(name).unwrap_or(&none);
        let hashes = present.chains.get(name).unwrap_or(&empty);
        let own = present.insertions.get(name).map(Vec::as_slice);
        kernel_chain(&mut changes, name, hashes, own.unwrap_or_default(), wanted);
    }
    for name in &left_over {
        line(&mut changes, format_args!("-X {name}"));
    }
    if declarations.is_empty() && changes.is_empty() {
        return None;
    }
    Some(format!("*{table}\n{declarations}{changes}COMMIT\n"))
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = text.write_fmt(arguments);
    text.push('\n');
}

/// Replaces what differs, appends what is missing, removes what is too much; rules that stay keep their counters.
fn own_chain(text: &mut String, name: &str, present: &Hashes, wanted: &[RenderedRule]) {
    for (index, rule) in wanted.iter().enumerate() {
        match present.get(index) {
            Some(hash) if hash.as_deref() == Some(&rule.hash) => {}
            Some(_) => line(text, format_args!("-R {name} {} {}", index + 1, rule.text)),
            None => line(text, format_args!("-A {name} {}", rule.text)),
        }
    }
    for index in (wanted.len()..present.len()).rev() {
        line(text, format_args!("-D {name} {}", index + 1));
    }
}

/// Leaves a chain alone when our rules are where they belong; otherwise takes all of ours out and puts them back.
/// They go by their text: by number, a rule that somebody inserted meanwhile could be hit.
fn kernel_chain(text: &mut String, name: &str, present: &Hashes, own: &[String], wanted: &Insertions) {
    let hashes =
        |rules: &[RenderedRule]| -> Vec<String> { rules.iter().map(|rule| rule.hash.clone()).collect() };
    let (first, last) = (hashes(&wanted.first), hashes(&wanted.last));
    let begins = present
        .iter()
        .map(Option::as_ref)
        .take(first.len())
        .eq(first.iter().map(Some));
    let tail = present.len().saturating_sub(last.len()).max(first.len());
    let ends = present
        .iter()
        .skip(tail)
        .map(Option::as_ref)
        .eq(last.iter().map(Some));
    if own.len() == first.len() + last.len() && begins && ends {
        return;
    }
    for rule in own {
        line(text, format_args!("-D {name} {rule}"));
    }
    for rule in wanted.first.iter().rev() {
        line(text, format_args!("-I {name} 1 {}", rule.text));
    }
    for rule in &wanted.last {
        line(text, format_args!("-A {name} {}", rule.text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(hash: &str) -> RenderedRule {
        RenderedRule {
            hash: hash.to_owned(),
            text: format!("-m comment --comment \"cali:{hash}\" -j ACCEPT"),
        }
    }

    fn wanted() -> Wanted {
        Wanted {
            chains: BTreeMap::from([("cali-a".to_owned(), vec![rule("1"), rule("2")])]),
            kernel_chains: BTreeMap::from([(
                "FORWARD".to_owned(),
                Insertions {
                    first: vec![rule("f")],
                    last: vec![rule("l")],
                },
            )]),
        }
    }

    fn listing(chains: &str) -> Present {
        let text = format!("*nat\n:X - [0:0]\nCOMMIT\n*filter\n{chains}COMMIT\n");
        parse(&text, "filter").unwrap()
    }

    #[test]
    fn an_empty_table_gets_everything_in_one_transaction() {
        let text = plan("filter", &Present::default(), &wanted(), true).unwrap();
        assert_eq!(
            text,
            "*filter\n:cali-a - -\n\
             -A cali-a -m comment --comment \"cali:1\" -j ACCEPT\n\
             -A cali-a -m comment --comment \"cali:2\" -j ACCEPT\n\
             -I FORWARD 1 -m comment --comment \"cali:f\" -j ACCEPT\n\
             -A FORWARD -m comment --comment \"cali:l\" -j ACCEPT\nCOMMIT\n"
        );
    }

    const RIGHT: &str = ":FORWARD ACCEPT [0:0]\n:cali-a - [0:0]\n\
        -A FORWARD -m comment --comment \"cali:f\" -j ACCEPT\n-A FORWARD -j FOREIGN\n\
        -A FORWARD -m comment --comment \"cali:l\" -j ACCEPT\n\
        -A cali-a -m comment --comment cali:1 -j ACCEPT\n-A cali-a -m comment --comment cali:2 -j ACCEPT\n";

    #[test]
    fn what_is_right_is_not_written() {
        assert_eq!(plan("filter", &listing(RIGHT), &wanted(), true), None);
    }

    #[test]
    fn foreign_rules_stay_and_ours_return_to_their_place() {
        let moved = RIGHT.replace(
            "-A FORWARD -m comment --comment \"cali:f\" -j ACCEPT\n-A FORWARD -j FOREIGN\n",
            "-A FORWARD -j FOREIGN\n-A FORWARD -m comment --comment \"cali:f\" -j ACCEPT\n",
        );
        let text = plan("filter", &listing(&moved), &wanted(), true).unwrap();
        assert!(
            text.contains(
                "-D FORWARD -m comment --comment \"cali:f\" -j ACCEPT\n\
                 -D FORWARD -m comment --comment \"cali:l\" -j ACCEPT\n-I FORWARD 1 "
            ),
            "{text}"
        );
        assert!(!text.contains("FOREIGN"), "{text}");
    }

    #[test]
    fn a_changed_rule_is_replaced_and_surplus_goes() {
        let present = listing(&format!(
            "{}-A cali-a -j DROP\n",
            RIGHT.replace("cali:2", "cali:9")
        ));
        let text = plan("filter", &present, &wanted(), true).unwrap();
        assert_eq!(
            text,
            "*filter\n-R cali-a 2 -m comment --comment \"cali:2\" -j ACCEPT\n-D cali-a 3\nCOMMIT\n"
        );
    }

    #[test]
    fn left_over_chains_go_only_when_asked() {
        let present = listing(&format!(":cali-old - [0:0]\n{RIGHT}"));
        assert_eq!(plan("filter", &present, &wanted(), false), None);
        let text = plan("filter", &present, &wanted(), true).unwrap();
        assert_eq!(text, "*filter\n:cali-old - -\n-X cali-old\nCOMMIT\n");
    }

    #[test]
    fn a_listing_that_cannot_be_trusted_is_an_error() {
        assert_eq!(
            parse("*filter\n:INPUT ACCEPT [0:0]\n", "filter"),
            Err(ParseError::Truncated("filter".to_owned()))
        );
        assert_eq!(
            parse("# Table `filter' is incompatible, use 'nft' tool.\n", "filter"),
            Err(ParseError::Incompatible("filter".to_owned()))
        );
        assert_eq!(
            parse("*filter\n-A NOWHERE -j DROP\nCOMMIT\n", "filter"),
            Err(ParseError::Line(2))
        );
        assert_eq!(parse("", "filter"), Ok(Present::default()));
    }

    #[test]
    fn a_foreign_comment_that_mentions_the_mark_is_foreign() {
        assert_eq!(hash_of("-m comment --comment \"not cali:abc\" -j DROP"), None);
        assert_eq!(
            hash_of("-m comment --comment \"cali:abc\" -j DROP"),
            Some("abc".to_owned())
        );
    }
}
