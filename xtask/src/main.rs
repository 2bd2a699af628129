//! Tasks of the workspace: generated files, and what a machine can watch of the house rules.

mod crds;
mod dag;
mod images;
mod resources;
mod tidy;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Tasks of the Caracal workspace")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Write the CustomResourceDefinitions as a Helm chart.
    Crds {
        /// Compare with what is there instead of writing.
        #[arg(long)]
        check: bool,
    },
    /// Write container images as OCI archives, from static programs.
    Images(images::Options),
    /// Write the reference of all resources.
    Resources {
        /// Compare with what is there instead of writing.
        #[arg(long)]
        check: bool,
    },
    /// Check the arrows between packages and the doors of external crates.
    Dag,
    /// Check module docs and forgotten notes; name long files.
    Tidy,
}

fn main() -> Result<()> {
    let root = root()?;
    match Arguments::parse().task {
        Task::Crds { check: true } => crds::check(&root),
        Task::Crds { check: false } => crds::write(&root),
        Task::Images(options) => images(&options),
        Task::Resources { check: true } => resources::check(&root),
        Task::Resources { check: false } => resources::write(&root),
        Task::Dag => dag::check(),
        Task::Tidy => tidy_report(&root),
    }
}

fn root() -> Result<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_path_buf)
        .context("xtask lies in the root folder of the workspace")
}

#[expect(clippy::print_stdout, reason = "what was written is what was asked for")]
fn images(options: &images::Options) -> Result<()> {
    for image in images::write(options)? {
        println!("{}\t{}\t{}", image.path.display(), image.reference, image.digest);
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a report is what was asked for")]
fn tidy_report(root: &Path) -> Result<()> {
    for (lines, file) in tidy::long_files(root)? {
        println!("{lines:5} {}", file.display());
    }
    tidy::check(root)
}
