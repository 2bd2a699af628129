//! Rules that the kernel does not take: which one `iptables-restore` complains of, and what stands in its place.
//!
//! Pure: text in, text out. One such rule would otherwise keep a whole table from being written.

use std::collections::BTreeSet;

use caracal_felix_core::render::iptables::{COMMENT_PREFIX, RenderedRule};

use super::iptables::{Wanted, is_ours};

/// Chains that decide about packets of endpoints. A rule that is missing there must not let anything pass.
pub const DECIDING: [&str; 12] = [
    "cali-pi-",
    "cali-po-",
    "cali-pri-",
    "cali-pro-",
    "cali-gi-",
    "cali-go-",
    "cali-tw-",
    "cali-fw-",
    "cali-th-",
    "cali-fh-",
    "cali-thfw-",
    "cali-fhfw-",
];

/// A rule: the chain it is in, and its hash.
pub type Key = (String, String);

/// Returns the rule that a program names by its line of the input. A set that is not there yet is no fault of the rule.
#[must_use]
pub fn culprit(problem: &str, input: &str) -> Option<Key> {
    if problem.contains("doesn't exist") {
        return None;
    }
    let (_, after) = problem.split_once("line")?;
    let digits: String = after
        .trim_start_matches([':', ' '])
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    let line = input.lines().nth(digits.parse::<usize>().ok()?.checked_sub(1)?)?;
    let mut words = line.split(' ');
    let is_rule = matches!(words.next(), Some("-A" | "-R"));
    let chain = words.next().filter(|chain| is_rule && is_ours(chain))?;
    let (_, hash) = line.split_once(COMMENT_PREFIX)?;
    let (hash, _) = hash.split_once('"')?;
    Some((chain.to_owned(), hash.to_owned()))
}

/// What is wanted without rules that were refused: chains that decide are closed there, others go without.
#[must_use]
pub fn without(wanted: &Wanted, refused: &BTreeSet<Key>) -> Wanted {
    let mut wanted = wanted.clone();
    for (chain, hash) in refused {
        let Some(rules) = wanted.chains.get_mut(chain) else {
            continue;
        };
        if DECIDING.iter().any(|prefix| chain.starts_with(prefix)) {
            let own = rules.iter_mut().filter(|rule| rule.hash == *hash);
            own.for_each(|rule| *rule = closing(hash));
        } else {
            rules.retain(|rule| rule.hash != *hash);
        }
    }
    wanted
}

/// Its hash is another than that of the rule it stands for, so that the next agent tries that one again.
fn closing(hash: &str) -> RenderedRule {
    let own: String = hash.chars().rev().collect();
    RenderedRule {
        text: format!(
            "-m comment --comment \"{COMMENT_PREFIX}{own}\" -m comment --comment \"In place of rule {hash} that the \
             kernel refused\" --jump DROP"
        ),
        hash: own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INPUT: &str = "*mangle\n:cali-pi-a - -\n-A FORWARD -m comment --comment \"cali:one\" -j cali-pi-a\n\
        -A cali-pi-a -m comment --comment \"cali:two\" ! -d 0.0.0.0/0 -j DROP\n\
        -R cali-x 3 -m comment --comment \"cali:three\" -j RETURN\nCOMMIT\n";

    #[test]
    fn the_rule_is_found_by_its_line() {
        let of = |problem: &str| culprit(problem, INPUT);
        let key = |chain: &str, hash: &str| Some((chain.to_owned(), hash.to_owned()));
        assert_eq!(
            of(
                "iptables-nft-restore v1.8.9 (nf_tables): \nline 4: RULE_APPEND failed (Invalid argument): rule in chain"
            ),
            key("cali-pi-a", "two")
        );
        assert_eq!(of("Error occurred at line: 5"), key("cali-x", "three"));
        // The kernel's own chains, lines without a rule, and sets that come later.
        for problem in [
            "line 3: RULE_APPEND failed",
            "line 6 failed",
            "line 2: CHAIN_ADD failed",
            "line 99",
            "line 0",
            "gone",
            "Set cali40s:x doesn't exist. Error occurred at line: 4",
        ] {
            assert_eq!(of(problem), None, "{problem}");
        }
    }

    #[test]
    fn a_deciding_chain_is_closed_and_another_goes_without() {
        let rule = |hash: &str| RenderedRule {
            hash: hash.to_owned(),
            text: "-j RETURN".to_owned(),
        };
        let mut wanted = Wanted::default();
        for chain in ["cali-pi-a", "cali-x"] {
            let rules = vec![rule("one"), rule("two")];
            wanted.chains.insert(chain.to_owned(), rules);
        }
        let refused = ["cali-pi-a", "cali-x"].map(|chain| (chain.to_owned(), "two".to_owned()));
        let left = without(&wanted, &refused.into());
        let texts = |chain: &str| -> Vec<&str> {
            let rules = left.chains.get(chain).unwrap();
            rules.iter().map(|rule| rule.text.as_str()).collect()
        };
        assert_eq!(texts("cali-x"), ["-j RETURN"]);
        let [first, second] = texts("cali-pi-a")[..] else {
            panic!("both places are taken")
        };
        assert_eq!(first, "-j RETURN");
        assert!(
            second.ends_with("--jump DROP") && second.contains("cali:owt"),
            "{second}"
        );
    }
}
