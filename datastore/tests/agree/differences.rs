//! The list of what may differ, with its reasons: the table of `docs/api-agreement.md`.

use std::cell::RefCell;
use std::fmt::Write as _;

use regex::Regex;

/// When set, all differences are shown, also those of the table.
const SHOW: &str = "CARACAL_SHOW_DIFFERENCES";
const LIST: &str = include_str!("../../../docs/api-agreement.md");

/// The rows about one file. `*` stands for any text.
pub(crate) struct Differences {
    rows: Vec<(String, Regex, Regex)>,
    used: RefCell<Vec<bool>>,
}

impl Differences {
    /// A real server must answer as recorded: for it there are none.
    pub(crate) fn read(file: &str, real: bool) -> Self {
        let rows: Vec<_> = LIST
            .lines()
            .filter_map(|line| {
                let cells: Vec<&str> = line
                    .split(" | ")
                    .map(|cell| cell.trim_matches(['|', ' ']))
                    .collect();
                let [place, part, reason] = cells.as_slice() else {
                    return None;
                };
                let place = place.strip_prefix('`')?.strip_suffix('`')?;
                assert!(!reason.is_empty(), "a difference without a reason: {line}");
                let (wanted, title) = place.split_once(": ")?;
                (wanted == "*" || wanted == file)
                    .then(|| (line.to_owned(), pattern(title), pattern(part.trim_matches('`'))))
            })
            .filter(|_| !real && std::env::var_os(SHOW).is_none())
            .collect();
        let used = RefCell::new(vec![false; rows.len()]);
        Self { rows, used }
    }

    pub(crate) fn allow(&self, title: &str, at: &str) -> bool {
        let mut allowed = false;
        for (index, (_, place, part)) in self.rows.iter().enumerate() {
            if place.is_match(title) && part.is_match(at) {
                self.used.borrow_mut()[index] = true;
                allowed = true;
            }
        }
        allowed
    }

    /// A difference that is none any more must leave the list. Whoever removes one by accident is not stopped by it:
    /// this is asked for where both servers run (`make test-kube`).
    pub(crate) fn unused(&self, findings: &mut String) {
        if std::env::var_os(crate::target::KUBECONFIG).is_none() {
            return;
        }
        for ((line, _, _), used) in self.rows.iter().zip(self.used.borrow().iter()) {
            if !used && !line.starts_with("| `*: ") {
                writeln!(
                    findings,
                    "not a difference any more, take it from docs/api-agreement.md: {line}"
                )
                .unwrap();
            }
        }
    }
}

fn pattern(text: &str) -> Regex {
    let text = regex::escape(text).replace("\\*", ".*");
    Regex::new(&format!("^{text}$")).unwrap()
}
