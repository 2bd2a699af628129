//! The difference of two texts as a unified diff (the form of POSIX `diff -u`).

/// Lines of context around a change.
const CONTEXT: usize = 3;
/// Texts with more lines than this (both together) are compared as a whole: the table of the comparison would not
/// fit into memory.
const LINES_MAX: usize = 8_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edit<'a> {
    Keep(&'a str),
    Remove(&'a str),
    Add(&'a str),
}

/// The unified diff between two texts, with names for both; empty when they are the same.
pub(crate) fn unified(old_name: &str, new_name: &str, old: &str, new: &str) -> String {
    if old == new {
        return String::new();
    }
    let old: Vec<&str> = old.lines().collect();
    let new: Vec<&str> = new.lines().collect();
    let edits = edits(&old, &new);
    let mut text = format!("--- {old_name}\n+++ {new_name}\n");
    for (start, end) in hunks(&edits) {
        let before = |edits: &[Edit<'_>]| {
            let old = edits.iter().filter(|edit| !matches!(edit, Edit::Add(_))).count();
            let new = edits
                .iter()
                .filter(|edit| !matches!(edit, Edit::Remove(_)))
                .count();
            (old, new)
        };
        let (old_skipped, new_skipped) = before(edits.get(..start).unwrap_or_default());
        let hunk = edits.get(start..end).unwrap_or_default();
        let (old_count, new_count) = before(hunk);
        text.push_str(&format!(
            "@@ -{} +{} @@\n",
            range(old_skipped, old_count),
            range(new_skipped, new_count)
        ));
        for edit in hunk {
            let (sign, line) = match edit {
                Edit::Keep(line) => (' ', line),
                Edit::Remove(line) => ('-', line),
                Edit::Add(line) => ('+', line),
            };
            text.push_str(&format!("{sign}{line}\n"));
        }
    }
    text
}

/// Line range of a hunk; an empty one names the line before it.
fn range(skipped: usize, count: usize) -> String {
    match count {
        0 => format!("{skipped},0"),
        1 => format!("{}", skipped + 1),
        _ => format!("{},{count}", skipped + 1),
    }
}

/// Changes with their context, as ranges of edits; those that touch are one.
fn hunks(edits: &[Edit<'_>]) -> Vec<(usize, usize)> {
    let mut hunks: Vec<(usize, usize)> = Vec::new();
    for (index, edit) in edits.iter().enumerate() {
        if matches!(edit, Edit::Keep(_)) {
            continue;
        }
        let (start, end) = (
            index.saturating_sub(CONTEXT),
            (index + 1 + CONTEXT).min(edits.len()),
        );
        match hunks.last_mut() {
            Some(last) if start <= last.1 => last.1 = end,
            _ => hunks.push((start, end)),
        }
    }
    hunks
}

/// A shortest way from one text to the other, by the longest common subsequence of what differs.
fn edits<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Edit<'a>> {
    let head = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (old_rest, new_rest) = (
        old.get(head..).unwrap_or_default(),
        new.get(head..).unwrap_or_default(),
    );
    let tail = old_rest
        .iter()
        .rev()
        .zip(new_rest.iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    let old_middle = old_rest.get(..old_rest.len() - tail).unwrap_or_default();
    let new_middle = new_rest.get(..new_rest.len() - tail).unwrap_or_default();
    let keep = |lines: &[&'a str]| lines.iter().map(|line| Edit::Keep(line)).collect::<Vec<_>>();
    let mut edits = keep(old.get(..head).unwrap_or_default());
    if old_middle.len() + new_middle.len() > LINES_MAX {
        edits.extend(old_middle.iter().map(|line| Edit::Remove(line)));
        edits.extend(new_middle.iter().map(|line| Edit::Add(line)));
    } else {
        edits.extend(by_common_subsequence(old_middle, new_middle));
    }
    edits.extend(keep(old_rest.get(old_rest.len() - tail..).unwrap_or_default()));
    edits
}

fn by_common_subsequence<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Edit<'a>> {
    // lengths[i][j]: longest common subsequence of old[i..] and new[j..].
    let width = new.len() + 1;
    let mut lengths = vec![0_u16; (old.len() + 1) * width];
    let at = |lengths: &[u16], i: usize, j: usize| lengths.get(i * width + j).copied().unwrap_or_default();
    for (i, a) in old.iter().enumerate().rev() {
        for (j, b) in new.iter().enumerate().rev() {
            let length = if a == b {
                at(&lengths, i + 1, j + 1) + 1
            } else {
                at(&lengths, i + 1, j).max(at(&lengths, i, j + 1))
            };
            if let Some(place) = lengths.get_mut(i * width + j) {
                *place = length;
            }
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut edits = Vec::new();
    loop {
        match (old.get(i), new.get(j)) {
            (Some(a), Some(b)) if a == b => {
                edits.push(Edit::Keep(a));
                (i, j) = (i + 1, j + 1);
            }
            (Some(a), b) if b.is_none() || at(&lengths, i + 1, j) >= at(&lengths, i, j + 1) => {
                edits.push(Edit::Remove(a));
                i += 1;
            }
            (_, Some(b)) => {
                edits.push(Edit::Add(b));
                j += 1;
            }
            _ => return edits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_has_its_context_and_ranges() {
        let old: String = (1..=12).map(|n| format!("{n}\n")).collect();
        let new = old.replace("6\n", "six\nsechs\n").replace("12\n", "");
        assert_eq!(
            unified("a", "b", &old, &new),
            "--- a\n+++ b\n@@ -3,10 +3,10 @@\n 3\n 4\n 5\n-6\n+six\n+sechs\n 7\n 8\n 9\n 10\n 11\n-12\n"
        );
    }

    #[test]
    fn a_new_text_and_a_gone_one_name_the_empty_range() {
        assert_eq!(unified("a", "b", "", "x\n"), "--- a\n+++ b\n@@ -0,0 +1 @@\n+x\n");
        assert_eq!(
            unified("a", "b", "x\ny\n", ""),
            "--- a\n+++ b\n@@ -1,2 +0,0 @@\n-x\n-y\n"
        );
        assert_eq!(unified("a", "b", "x\n", "x\n"), "");
    }

    #[test]
    fn distant_changes_are_hunks_of_their_own() {
        let old: String = (1..=30).map(|n| format!("{n}\n")).collect();
        let new = old.replace("\n2\n", "\ntwo\n").replace("\n29\n", "\nnine\n");
        let text = unified("a", "b", &old, &new);
        assert_eq!(text.matches("@@ -").count(), 2, "{text}");
    }
}
