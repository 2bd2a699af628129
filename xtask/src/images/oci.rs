//! OCI image archives: configuration, manifest, and an index when there is an image for more than one architecture.
//!
//! Layers are not compressed: then their bytes depend on nobody's compressor, and who pushes an image compresses it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::elf::Architecture;
use super::tar::{self, Entry};

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// A fixed date, so that the image is the same tomorrow.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// An image of one architecture.
pub(crate) struct Image {
    /// How it is run.
    pub(crate) config: Config,
    /// Its files.
    pub(crate) layer: Layer,
}

/// How an image is run.
pub(crate) struct Config {
    /// For which machines.
    pub(crate) architecture: Architecture,
    /// The program.
    pub(crate) entrypoint: &'static str,
    /// User and group; empty for root.
    pub(crate) user: &'static str,
    /// The environment.
    pub(crate) environment: &'static str,
    /// What it is.
    pub(crate) title: &'static str,
    /// Its version.
    pub(crate) version: String,
}

/// The files of an image, as a tar file.
pub(crate) struct Layer {
    /// Where the tar file is; it is removed once it is in the archive.
    pub(crate) path: PathBuf,
    /// Its digest.
    pub(crate) digest: String,
    /// Its length.
    pub(crate) size: u64,
}

/// Writes an archive with one name in it, and gives the digest that the name stands for.
///
/// # Errors
/// When a file cannot be read or written.
pub(crate) fn write_archive(path: &Path, reference: &str, tag: &str, images: &[Image]) -> Result<String> {
    let mut entries = vec![Entry::text("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#)];
    let mut manifests = Vec::new();
    for image in images {
        entries.push(Entry::file(&place(&image.layer.digest), &image.layer.path)?);
        let config = blob(&mut entries, CONFIG, &config(image))?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config,
            "layers": [{"mediaType": LAYER, "digest": image.layer.digest, "size": image.layer.size}],
            "annotations": annotations(&image.config),
        });
        let mut descriptor = blob(&mut entries, MANIFEST, &manifest)?;
        set(
            &mut descriptor,
            "platform",
            json!({"architecture": image.config.architecture.oci(), "os": "linux"}),
        );
        manifests.push(descriptor);
    }
    let mut named = match (manifests.pop(), manifests.is_empty()) {
        (Some(only), true) => only,
        (last, _) => {
            manifests.extend(last);
            let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
            blob(&mut entries, INDEX, &index)?
        }
    };
    let digest = named
        .get("digest")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let names = json!({"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": tag});
    set(&mut named, "annotations", names);
    let top = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [named]});
    entries.push(Entry::bytes("index.json", serde_json::to_vec(&top)?));
    // Under another name until it is whole: who waits for the archive never reads half of it.
    let half = path.with_extension("tar.half");
    let file = File::create(&half).with_context(|| format!("making {}", half.display()))?;
    tar::write(file, entries).with_context(|| format!("writing {}", half.display()))?;
    fs::rename(&half, path).with_context(|| format!("writing {}", path.display()))?;
    for image in images {
        fs::remove_file(&image.layer.path)
            .with_context(|| format!("removing {}", image.layer.path.display()))?;
    }
    Ok(digest)
}

fn config(image: &Image) -> Value {
    let config = &image.config;
    json!({
        "created": CREATED,
        "architecture": config.architecture.oci(),
        "os": "linux",
        "config": {
            "User": config.user,
            "Env": [config.environment],
            "Entrypoint": [config.entrypoint],
            "WorkingDir": "/",
            "Labels": annotations(config),
        },
        "rootfs": {"type": "layers", "diff_ids": [image.layer.digest]},
        "history": [{"created": CREATED, "created_by": "xtask images"}],
    })
}

fn annotations(config: &Config) -> Value {
    json!({
        "org.opencontainers.image.title": config.title,
        "org.opencontainers.image.version": config.version,
        "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
    })
}

/// Adds a document, and gives what points to it.
fn blob(entries: &mut Vec<Entry>, media_type: &str, document: &Value) -> Result<Value> {
    let bytes = serde_json::to_vec(document)?;
    let digest = tar::digest(Sha256::new_with_prefix(&bytes));
    let descriptor = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
    entries.push(Entry::bytes(&place(&digest), bytes));
    Ok(descriptor)
}

fn place(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

fn set(object: &mut Value, key: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}
