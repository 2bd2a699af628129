//! Container images, made without a container engine: an OCI archive each, the same bytes whenever the programs are
//! the same.
//!
//! An image has the programs, the links under which Calico's manifests call them, and a file of user names: no shell,
//! no libraries, no package manager. So programs must be static, and one that is not is refused.
//! Source: OCI image specification (`image-layout`, `manifest`, `config`), `containerd`'s importer for the names.

mod elf;
mod oci;
mod tar;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use elf::Architecture;
use oci::{Config, Image, Layer};
use tar::Entry;

/// What goes into which image.
struct Recipe {
    /// Last part of the image's name.
    name: &'static str,
    /// What it is, as its annotations say.
    title: &'static str,
    /// The program that is started.
    entrypoint: &'static str,
    /// User and group; empty for root.
    user: &'static str,
    /// Programs by name, with their places.
    programs: &'static [(&'static str, &'static str)],
    /// Other names of programs, with what they point to.
    links: &'static [(&'static str, &'static str)],
}

/// Who needs no rights on the machine runs as this user.
const NOBODY: &str = "65532:65532";
const PASSWD: &str =
    "root:x:0:0:root:/:/nonexistent\ncaracal:x:65532:65532:caracal:/nonexistent:/nonexistent\n";
const GROUP: &str = "root:x:0:\ncaracal:x:65532:\n";
const PATH: &str = "PATH=/usr/bin:/opt/cni/bin";

const RECIPES: &[Recipe] = &[
    Recipe {
        name: "node",
        title: "caracal-node with felix, bgpd and the CNI plugins",
        entrypoint: "/usr/bin/caracal-node",
        user: "",
        programs: &[
            ("caracal-node", "usr/bin/caracal-node"),
            ("caracal-felix", "usr/bin/caracal-felix"),
            ("caracal-bgpd", "usr/bin/caracal-bgpd"),
            ("calico", "opt/cni/bin/calico"),
            ("calico-ipam", "opt/cni/bin/calico-ipam"),
        ],
        links: &[
            // Under these names Calico's manifests call the agent and the installer.
            ("usr/bin/calico-node", "caracal-node"),
            ("opt/cni/bin/install", "/usr/bin/caracal-node"),
        ],
    },
    Recipe {
        name: "controllers",
        title: "caracal-controllers",
        entrypoint: "/usr/bin/caracal-controllers",
        user: NOBODY,
        programs: &[("caracal-controllers", "usr/bin/caracal-controllers")],
        links: &[],
    },
    Recipe {
        name: "ctl",
        title: "caracalctl",
        entrypoint: "/usr/bin/caracalctl",
        user: NOBODY,
        programs: &[("caracalctl", "usr/bin/caracalctl")],
        links: &[
            ("usr/bin/calicoctl", "caracalctl"),
            ("usr/bin/kubectl-caracal", "caracalctl"),
        ],
    },
];

/// What is wanted.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Folder with static programs of one architecture; given twice, one image of both.
    #[arg(long = "bin", value_name = "DIR", required = true)]
    bins: Vec<PathBuf>,
    /// Folder for the archives.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// First part of the images' names.
    #[arg(long, value_name = "NAME", default_value = "caracal.local")]
    repository: String,
    /// Tag of the images.
    #[arg(long, value_name = "TAG", default_value = env!("CARGO_PKG_VERSION"))]
    tag: String,
    /// Only these images.
    #[arg(long = "only", value_name = "IMAGE")]
    only: Vec<String>,
}

/// An archive that was written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// Where.
    pub(crate) path: PathBuf,
    /// Name and tag in it.
    pub(crate) reference: String,
    /// Digest of what the name stands for.
    pub(crate) digest: String,
}

/// Writes the archives.
///
/// # Errors
/// When a program is missing, not static or of another architecture than its neighbours, or a file cannot be written.
pub(crate) fn write(options: &Options) -> Result<Vec<Written>> {
    check_name("--repository", &options.repository, |c| {
        matches!(c, '.' | '-' | '_' | '/' | ':')
    })?;
    check_name("--tag", &options.tag, |c| matches!(c, '.' | '-' | '_'))?;
    fs::create_dir_all(&options.out).with_context(|| format!("making {}", options.out.display()))?;
    let mut written = Vec::new();
    for recipe in chosen(&options.only)? {
        let reference = format!("{}/{}:{}", options.repository, recipe.name, options.tag);
        let path = options.out.join(format!("caracal-{}.tar", recipe.name));
        let images = options
            .bins
            .iter()
            .map(|bin| image(recipe, bin, &options.out, &options.tag))
            .collect::<Result<Vec<_>>>()?;
        let mut seen = BTreeMap::new();
        for (image, bin) in images.iter().zip(&options.bins) {
            if let Some(other) = seen.insert(image.config.architecture, bin) {
                bail!(
                    "--bin {} and --bin {} are both for {}: give one folder an architecture",
                    other.display(),
                    bin.display(),
                    image.config.architecture.oci()
                );
            }
        }
        let digest = oci::write_archive(&path, &reference, &options.tag, &images)?;
        written.push(Written {
            path,
            reference,
            digest,
        });
    }
    Ok(written)
}

/// Registries refuse other characters, and so late that the reason is hard to see.
fn check_name(option: &str, value: &str, is_separator: impl Fn(char) -> bool) -> Result<()> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || is_separator(c);
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    if value.chars().all(fits) && edge(value.chars().next()) && edge(value.chars().next_back()) {
        return Ok(());
    }
    bail!(
        "{option} {value:?} cannot be a part of an image's name; use lower-case letters, digits and '.', '-', '_' between them"
    )
}

fn chosen(only: &[String]) -> Result<Vec<&'static Recipe>> {
    for name in only {
        if !RECIPES.iter().any(|recipe| recipe.name == name) {
            let known: Vec<&str> = RECIPES.iter().map(|recipe| recipe.name).collect();
            bail!("--only {name:?} is no image; there are {}", known.join(", "));
        }
    }
    Ok(RECIPES
        .iter()
        .filter(|recipe| only.is_empty() || only.iter().any(|name| name == recipe.name))
        .collect())
}

fn image(recipe: &Recipe, bin: &Path, out: &Path, tag: &str) -> Result<Image> {
    let mut entries = vec![Entry::text("etc/passwd", PASSWD), Entry::text("etc/group", GROUP)];
    let mut architecture: Option<(Architecture, PathBuf)> = None;
    for (name, place) in recipe.programs {
        let source = bin.join(name);
        let own = elf::inspect(&source)?;
        match &architecture {
            Some((other, example)) if *other != own => bail!(
                "{} is for {} and {} for {}: a folder has the programs of one architecture",
                source.display(),
                own.oci(),
                example.display(),
                other.oci()
            ),
            _ => architecture = Some((own, source.clone())),
        }
        entries.push(Entry::program(place, &source)?);
    }
    for (name, target) in recipe.links {
        entries.push(Entry::link(name, target));
    }
    let (architecture, _) = architecture.context("an image has at least one program")?;
    let layer = Layer {
        path: out.join(format!(".caracal-{}-{}.layer", recipe.name, architecture.oci())),
        digest: String::new(),
        size: 0,
    };
    let file = File::create(&layer.path).with_context(|| format!("making {}", layer.path.display()))?;
    let (digest, size) =
        tar::write(file, entries).with_context(|| format!("writing {}", layer.path.display()))?;
    Ok(Image {
        config: Config {
            architecture,
            entrypoint: recipe.entrypoint,
            user: recipe.user,
            environment: PATH,
            title: recipe.title,
            version: tag.to_owned(),
        },
        layer: Layer {
            digest,
            size,
            ..layer
        },
    })
}

#[cfg(test)]
mod tests;
