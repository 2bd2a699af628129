//! What a program needs to run: its architecture, and nothing else, if it is to run in an empty image.
//!
//! Source: System V ABI, "Object Files" (`elf.h`).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Architectures of images.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Architecture {
    /// x86-64.
    Amd64,
    /// AArch64.
    Arm64,
}

impl Architecture {
    /// The name in an image's configuration.
    pub(crate) const fn oci(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// The target to build for.
    const fn target(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-musl",
            Self::Arm64 => "aarch64-unknown-linux-musl",
        }
    }
}

const HEADER_LEN: usize = 64;
const SEGMENT_LEN: usize = 56;
const SEGMENTS_MAX: u16 = 256;
/// `PT_DYNAMIC`, `PT_INTERP`.
const SEGMENT_DYNAMIC: u32 = 2;
const SEGMENT_INTERPRETER: u32 = 3;
/// `DT_NEEDED`.
const NEEDED: u64 = 1;
/// No dynamic section is nearly so large; one that claims to be is not read to its end.
const DYNAMIC_LEN_MAX: u64 = 1 << 20;

/// The architecture of a static program.
///
/// # Errors
/// When it cannot be read, is no program for Linux, or needs a loader or libraries.
pub(crate) fn inspect(path: &Path) -> Result<Architecture> {
    let file = File::open(path).with_context(|| {
        format!(
            "opening {}; is it built, and --bin the folder with the programs?",
            path.display()
        )
    })?;
    let header = read(&file, 0, HEADER_LEN).unwrap_or_default();
    if !header.starts_with(&[0x7f, b'E', b'L', b'F', 2, 1]) {
        bail!("{} is no 64-bit little-endian ELF program", path.display());
    }
    let architecture = match u16_at(&header, 18) {
        Some(62) => Architecture::Amd64,
        Some(183) => Architecture::Arm64,
        machine => bail!(
            "{} is for machine {}; images are made for amd64 (62) and arm64 (183)",
            path.display(),
            machine.unwrap_or_default()
        ),
    };
    let start = u64_at(&header, 32).unwrap_or_default();
    let length = u16_at(&header, 54).unwrap_or_default();
    let count = u16_at(&header, 56).unwrap_or_default();
    if usize::from(length) != SEGMENT_LEN || count == 0 || count > SEGMENTS_MAX {
        bail!("{} has a damaged table of segments", path.display());
    }
    for index in 0..u64::from(count) {
        let segment = read(&file, start + index * u64::from(length), SEGMENT_LEN)
            .with_context(|| format!("reading the segments of {}", path.display()))?;
        if let Some(need) = need(&file, &segment) {
            bail!(
                "{} needs {need}, which an image from scratch does not have; build it for {} (`make images` does)",
                path.display(),
                architecture.target()
            );
        }
    }
    Ok(architecture)
}

/// What a segment says that the program needs.
fn need(file: &File, segment: &[u8]) -> Option<String> {
    let place = u64_at(segment, 8)?;
    let length = u64_at(segment, 32)?.min(DYNAMIC_LEN_MAX);
    match u32_at(segment, 0)? {
        SEGMENT_INTERPRETER => {
            let name = read(file, place, usize::try_from(length).ok()?).ok()?;
            let name = String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned();
            Some(format!("the loader {name}"))
        }
        SEGMENT_DYNAMIC => {
            let entries = read(file, place, usize::try_from(length).ok()?).ok()?;
            let needs = entries
                .chunks_exact(16)
                .any(|entry| u64_at(entry, 0) == Some(NEEDED));
            needs.then(|| "shared libraries".to_owned())
        }
        _ => None,
    }
}

fn read(file: &File, place: u64, length: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, place)?;
    Ok(bytes)
}

fn u16_at(bytes: &[u8], place: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(place..place + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], place: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(place..place + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], place: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(place..place + 8)?.try_into().ok()?))
}
