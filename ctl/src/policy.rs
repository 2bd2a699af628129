//! `policy`: what policies do, tried and reported.

mod cases;
pub(crate) mod denials;
pub(crate) mod report;
pub(crate) mod test;

use crate::args::Source;
use crate::error::Failure;
use crate::input;
use crate::snapshot::files::Manifests;
use crate::terminal::Terminal;

/// Reads manifests of files and directories.
fn manifests(
    terminal: &Terminal,
    files: &[String],
    recursive: bool,
    namespace: &str,
) -> Result<Manifests, Failure> {
    let mut manifests = Manifests::default();
    let mut errors = Vec::new();
    for file in files {
        let source = Source {
            filename: Some(file.clone()),
            recursive,
            skip_empty: false,
            namespace: None,
        };
        let documents = input::documents(terminal, &source).map_err(|failure| failure.with_code(2))?;
        for document in documents.into_iter().flatten() {
            errors.extend(manifests.take(document, namespace).err());
        }
    }
    if !errors.is_empty() {
        return Err(Failure::new(errors.join("\n")).with_code(2));
    }
    for tier in manifests.missing_tiers() {
        terminal.message(&format!(
            "note: tier {tier} is in none of the files: it counts as the last one, and denies at its end"
        ));
    }
    if !manifests.ignored.is_empty() {
        let kinds = manifests
            .ignored
            .iter()
            .map(|(kind, count)| format!("{count} {kind}"));
        let kinds: Vec<String> = kinds.collect();
        terminal.message(&format!(
            "note: these have no say about packets: {}",
            kinds.join(", ")
        ));
    }
    Ok(manifests)
}
