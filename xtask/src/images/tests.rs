//! Archives are read back with `tar`, as an importer would, and compared byte by byte.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::*;

const AMD64: u16 = 62;
const ARM64: u16 = 183;

/// A program header: kind, place, length.
type Segment = (u32, u64, u64);

/// The least that is a program: a header, and segments. What follows is what they point to.
fn program(machine: u16, segments: &[Segment], rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0];
    bytes.resize(16, 0);
    bytes.extend(2_u16.to_le_bytes());
    bytes.extend(machine.to_le_bytes());
    bytes.resize(32, 0);
    bytes.extend(64_u64.to_le_bytes());
    bytes.resize(54, 0);
    bytes.extend(56_u16.to_le_bytes());
    bytes.extend(u16::try_from(segments.len()).unwrap().to_le_bytes());
    bytes.resize(64, 0);
    for (kind, place, length) in segments {
        bytes.extend(kind.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(place.to_le_bytes());
        bytes.extend([0; 16]);
        bytes.extend(length.to_le_bytes());
        bytes.extend([0; 16]);
    }
    bytes.extend(rest);
    bytes
}

fn static_program(machine: u16, rest: &[u8]) -> Vec<u8> {
    program(machine, &[(1, 0, 0)], rest)
}

/// A folder with all programs of all images.
fn bin(machine: u16) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for recipe in RECIPES {
        for (name, _) in recipe.programs {
            fs::write(folder.path().join(name), static_program(machine, name.as_bytes())).unwrap();
        }
    }
    folder
}

fn options(bins: &[&Path], out: &Path) -> Options {
    Options {
        bins: bins.iter().map(|bin| bin.to_path_buf()).collect(),
        out: out.to_owned(),
        repository: "caracal.local".to_owned(),
        tag: "1.2.3".to_owned(),
        only: Vec::new(),
    }
}

fn unpack(archive: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let done = Command::new("tar")
        .arg("-xf")
        .arg(archive)
        .arg("-C")
        .arg(to)
        .status()
        .unwrap();
    assert!(done.success(), "tar reads {}", archive.display());
}

/// The blob that a descriptor points to, checked against it.
fn blob(folder: &Path, descriptor: &Value) -> Vec<u8> {
    let digest = descriptor["digest"].as_str().unwrap();
    let bytes = fs::read(folder.join("blobs").join(digest.replace(':', "/"))).unwrap();
    assert_eq!(descriptor["size"], bytes.len());
    assert_eq!(tar::digest(Sha256::new_with_prefix(&bytes)), digest);
    bytes
}

fn document(folder: &Path, descriptor: &Value) -> Value {
    serde_json::from_slice(&blob(folder, descriptor)).unwrap()
}

#[test]
fn an_archive_has_what_an_importer_reads() {
    let (bin, out) = (bin(AMD64), tempfile::tempdir().unwrap());
    let written = write(&options(&[bin.path()], out.path())).unwrap();
    let names: Vec<&str> = written.iter().map(|one| one.reference.as_str()).collect();
    assert_eq!(
        names,
        [
            "caracal.local/node:1.2.3",
            "caracal.local/controllers:1.2.3",
            "caracal.local/ctl:1.2.3"
        ]
    );
    let node = out.path().join("unpacked");
    unpack(&written[0].path, &node);
    assert_eq!(
        fs::read_to_string(node.join("oci-layout")).unwrap(),
        r#"{"imageLayoutVersion":"1.0.0"}"#
    );
    let index: Value = serde_json::from_slice(&fs::read(node.join("index.json")).unwrap()).unwrap();
    let named = &index["manifests"][0];
    assert_eq!(named["digest"], written[0].digest.as_str());
    assert_eq!(
        named["annotations"]["io.containerd.image.name"],
        "caracal.local/node:1.2.3"
    );
    let manifest = document(&node, named);
    let config = document(&node, &manifest["config"]);
    assert_eq!(config["architecture"], "amd64");
    assert_eq!(config["config"]["Entrypoint"][0], "/usr/bin/caracal-node");
    assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
    blob(&node, &manifest["layers"][0]);
    let digest = manifest["layers"][0]["digest"].as_str().unwrap();
    let root = out.path().join("root");
    unpack(&node.join("blobs").join(digest.replace(':', "/")), &root);
    for (name, place) in RECIPES[0].programs {
        let bytes = fs::read(root.join(place)).unwrap();
        assert_eq!(bytes, static_program(AMD64, name.as_bytes()), "{place}");
    }
    let link = fs::read_link(root.join("usr/bin/calico-node")).unwrap();
    assert_eq!(link, Path::new("caracal-node"));
    assert!(!root.join("bin").exists() && !root.join("lib").exists());
    let left: Vec<_> = fs::read_dir(out.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name.to_string_lossy().starts_with('.'))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_same_programs_give_the_same_bytes() {
    let (first_bin, second_bin) = (bin(AMD64), bin(AMD64));
    // Written in another order and at another time, with another mode.
    let calico = second_bin.path().join("calico");
    let bytes = fs::read(&calico).unwrap();
    fs::remove_file(&calico).unwrap();
    fs::write(&calico, bytes).unwrap();
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    File::options()
        .write(true)
        .open(&calico)
        .unwrap()
        .set_modified(old)
        .unwrap();
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let one = write(&options(&[first_bin.path()], first.path())).unwrap();
    let two = write(&options(&[second_bin.path()], second.path())).unwrap();
    for (one, two) in one.iter().zip(&two) {
        assert_eq!(one.digest, two.digest);
        assert!(
            fs::read(&one.path).unwrap() == fs::read(&two.path).unwrap(),
            "{} differs",
            one.reference
        );
    }
    fs::write(
        first_bin.path().join("calico"),
        static_program(AMD64, b"another version"),
    )
    .unwrap();
    let three = write(&options(&[first_bin.path()], first.path())).unwrap();
    assert_ne!(three[0].digest, one[0].digest, "another program, another image");
    assert_eq!(three[1].digest, one[1].digest, "the controllers are the same");
}

#[test]
fn two_architectures_are_one_image() {
    let (amd64, arm64, out) = (bin(AMD64), bin(ARM64), tempfile::tempdir().unwrap());
    let mut options = options(&[amd64.path(), arm64.path()], out.path());
    options.only = vec!["controllers".to_owned()];
    let written = write(&options).unwrap();
    assert_eq!(written.len(), 1);
    let folder = out.path().join("unpacked");
    unpack(&written[0].path, &folder);
    let top: Value = serde_json::from_slice(&fs::read(folder.join("index.json")).unwrap()).unwrap();
    let index = document(&folder, &top["manifests"][0]);
    let architectures: Vec<&Value> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|manifest| &manifest["platform"]["architecture"])
        .collect();
    assert_eq!(architectures, ["amd64", "arm64"]);
    for manifest in index["manifests"].as_array().unwrap() {
        document(&folder, manifest);
    }
}

#[test]
fn what_cannot_run_in_an_empty_image_is_refused() {
    let check = |bytes: &[u8], expected: &str| {
        let (bin, out) = (bin(AMD64), tempfile::tempdir().unwrap());
        fs::write(bin.path().join("caracal-bgpd"), bytes).unwrap();
        let error = write(&options(&[bin.path()], out.path())).unwrap_err();
        let text = format!("{error:#}");
        assert!(
            text.contains("caracal-bgpd") && text.contains(expected),
            "{expected}: {text}"
        );
    };
    let loader = b"/lib64/ld-linux-x86-64.so.2\0";
    check(
        &program(AMD64, &[(3, 120, loader.len() as u64)], loader),
        "needs the loader /lib64/ld-linux-x86-64.so.2",
    );
    let mut needed = [0; 32];
    needed[0] = 1;
    check(&program(AMD64, &[(2, 120, 32)], &needed), "shared libraries");
    check(b"#!/bin/sh\n", "no 64-bit");
    check(b"", "no 64-bit");
    check(&static_program(8, b""), "machine 8");
    check(&static_program(ARM64, b""), "one architecture");
    check(&static_program(AMD64, b"")[..70], "segments");
    let mut endless = static_program(AMD64, b"");
    endless[56..58].copy_from_slice(&u16::MAX.to_le_bytes());
    check(&endless, "damaged");
    // Independent of its place in memory and yet static: a dynamic section that needs nothing.
    let (bin, out) = (bin(AMD64), tempfile::tempdir().unwrap());
    fs::write(
        bin.path().join("calico"),
        program(AMD64, &[(2, 120, 32)], &[0; 32]),
    )
    .unwrap();
    write(&options(&[bin.path()], out.path())).unwrap();
}

#[test]
fn this_test_needs_a_loader_and_is_refused() {
    let own = std::env::current_exe().unwrap();
    let verdict = elf::inspect(&own);
    if cfg!(target_env = "musl") {
        verdict.unwrap();
    } else {
        let text = verdict.unwrap_err().to_string();
        assert!(
            text.contains("the loader /") && text.contains("-unknown-linux-musl"),
            "{text}"
        );
    }
}

#[test]
fn missing_programs_and_wrong_names_are_named() {
    let (bin, out) = (bin(AMD64), tempfile::tempdir().unwrap());
    fs::remove_file(bin.path().join("calico-ipam")).unwrap();
    let error = format!("{:#}", write(&options(&[bin.path()], out.path())).unwrap_err());
    assert!(
        error.contains("calico-ipam") && error.contains("--bin"),
        "{error}"
    );
    let mut one = options(&[bin.path()], out.path());
    one.only = vec!["nodes".to_owned()];
    let error = write(&one).unwrap_err().to_string();
    assert!(
        error.contains("nodes") && error.contains("node, controllers, ctl"),
        "{error}"
    );
    for (repository, tag) in [
        ("Caracal", "1"),
        ("", "1"),
        ("caracal.local", "-1"),
        ("caracal.local", "a b"),
    ] {
        let mut one = options(&[bin.path()], out.path());
        one.repository = repository.to_owned();
        one.tag = tag.to_owned();
        assert!(write(&one).is_err(), "{repository}:{tag}");
    }
}

#[test]
fn one_folder_an_architecture() {
    let (one, two) = (bin(AMD64), bin(AMD64));
    let out = tempfile::tempdir().unwrap();
    let error = write(&options(&[one.path(), two.path()], out.path())).unwrap_err();
    assert!(error.to_string().contains("both for amd64"), "{error}");
}
