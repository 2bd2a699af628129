//! Flags of the verbs on resources.

use clap::{Args, ValueEnum};

/// Where resources come from.
#[derive(Clone, Debug, Args)]
pub struct Source {
    /// File, directory or - for stdin, with YAML or JSON
    #[arg(short, long, value_name = "PATH")]
    pub filename: Option<String>,
    /// Go into sub-directories
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// An empty file or directory is no error
    #[arg(long)]
    pub skip_empty: bool,
    /// Namespace of namespaced resources that name none
    #[arg(short, long)]
    pub namespace: Option<String>,
}

/// How a change is tried without making it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DryRun {
    /// Make the change.
    None,
    /// Show the difference as this program computes it; nothing is sent.
    Client,
    /// Show the difference as the server would store it, with its defaults and checks.
    Server,
}

/// The flag `--dry-run`.
#[derive(Clone, Copy, Debug, Args)]
pub struct Trial {
    /// Show what would change as a unified diff, and change nothing: client (computed here) or server (checked there)
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "client",
          default_value = "none", hide_default_value = true)]
    pub dry_run: DryRun,
}

/// A source and the way of writing.
#[derive(Clone, Debug, Args)]
pub struct Crud {
    /// Where resources come from.
    #[command(flatten)]
    pub source: Source,
    /// Whether it is a trial.
    #[command(flatten)]
    pub trial: Trial,
}

/// Flags of `apply`.
#[derive(Debug, Args)]
pub struct Apply {
    /// Source and way of writing.
    #[command(flatten)]
    pub crud: Crud,
}

/// Flags of `replace`.
#[derive(Debug, Args)]
pub struct Replace {
    /// Source and way of writing.
    #[command(flatten)]
    pub crud: Crud,
}

/// Flags of `create`.
#[derive(Debug, Args)]
pub struct Create {
    /// Source and way of writing.
    #[command(flatten)]
    pub crud: Crud,
    /// What exists is no error
    #[arg(long)]
    pub skip_exists: bool,
}

/// Flags of `delete`.
#[derive(Debug, Args)]
pub struct Delete {
    /// Kind, as `ippool`
    pub kind: Option<String>,
    /// Names
    pub names: Vec<String>,
    /// Source and way of writing.
    #[command(flatten)]
    pub crud: Crud,
    /// What does not exist is no error
    #[arg(short, long)]
    pub skip_not_exists: bool,
}

/// Flags of `get`.
#[derive(Debug, Args)]
pub struct Get {
    /// Kind, as `ippool`
    pub kind: Option<String>,
    /// Names; all without any
    pub names: Vec<String>,
    /// Where resources come from.
    #[command(flatten)]
    pub source: Source,
    /// ps, wide, yaml, json, name, custom-columns=HEADING,…, jsonpath=TEMPLATE, go-template=TEMPLATE or
    /// go-template-file=FILE
    #[arg(short, long, default_value = "ps", value_name = "FORM")]
    pub output: String,
    /// All namespaces
    #[arg(short = 'A', long, short_alias = 'a')]
    pub all_namespaces: bool,
    /// Leave out what belongs to this cluster
    #[arg(long)]
    pub export: bool,
}

/// How a patch is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PatchType {
    /// A strategic merge patch; lists are replaced, `$patch` directives are understood.
    Strategic,
    /// A JSON merge patch (RFC 7386).
    Merge,
    /// A JSON patch (RFC 6902).
    Json,
}

/// Flags of `patch`.
#[derive(Debug, Args)]
pub struct Patch {
    /// Kind, as `ippool`
    pub kind: String,
    /// Name
    pub name: String,
    /// The patch, as JSON or YAML
    #[arg(short, long)]
    pub patch: String,
    /// How the patch is read
    #[arg(short = 't', long = "type", default_value = "strategic", value_name = "TYPE")]
    pub type_: PatchType,
    /// Namespace of a namespaced resource
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Whether it is a trial.
    #[command(flatten)]
    pub trial: Trial,
}

/// Flags of `label`.
#[derive(Debug, Args)]
pub struct Label {
    /// Kind, as `node`
    pub kind: String,
    /// Name
    pub name: String,
    /// key=value; with --remove: key
    #[arg(required = true)]
    pub labels: Vec<String>,
    /// Change a label that has another value
    #[arg(long)]
    pub overwrite: bool,
    /// Remove the label
    #[arg(long)]
    pub remove: bool,
    /// Namespace of a namespaced resource
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Whether it is a trial.
    #[command(flatten)]
    pub trial: Trial,
}

/// Flags of `validate`.
#[derive(Debug, Args)]
pub struct Validate {
    /// Where resources come from.
    #[command(flatten)]
    pub source: Source,
}

/// Flags of `convert`.
#[derive(Debug, Args)]
pub struct Convert {
    /// File, directory or - for stdin, with YAML or JSON
    #[arg(short, long, value_name = "PATH")]
    pub filename: String,
    /// Go into sub-directories
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// yaml or json
    #[arg(short, long, default_value = "yaml", value_name = "FORM")]
    pub output: String,
    /// Do not check what comes out
    #[arg(long)]
    pub ignore_validation: bool,
}

impl Convert {
    /// The source that the flags name.
    pub(crate) fn source(&self) -> Source {
        Source {
            filename: Some(self.filename.clone()),
            recursive: self.recursive,
            skip_empty: false,
            namespace: None,
        }
    }
}
