//! Tar archives (POSIX ustar) with nothing in them that differs from one machine or day to the next: times are zero,
//! owners root, names in order, modes given.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

const BLOCK: usize = 512;
/// Longest name without the extensions of the format, which nothing here needs.
const NAME_LEN_MAX: usize = 100;

/// One file.
pub(crate) struct Entry {
    name: String,
    mode: u32,
    content: Content,
}

enum Content {
    Bytes(Vec<u8>),
    File { path: PathBuf, size: u64 },
    Link(String),
    Folder,
}

impl Entry {
    /// A file that everybody may read.
    pub(crate) fn text(name: &str, text: &str) -> Self {
        Self::bytes(name, text.as_bytes().to_vec())
    }

    /// As [`Entry::text`].
    pub(crate) fn bytes(name: &str, bytes: Vec<u8>) -> Self {
        Self {
            name: name.to_owned(),
            mode: 0o644,
            content: Content::Bytes(bytes),
        }
    }

    /// A file whose content is another's.
    ///
    /// # Errors
    /// When its size cannot be read.
    pub(crate) fn file(name: &str, path: &Path) -> Result<Self> {
        let meta = path
            .metadata()
            .with_context(|| format!("reading {}", path.display()))?;
        Ok(Self {
            name: name.to_owned(),
            mode: 0o644,
            content: Content::File {
                path: path.to_owned(),
                size: meta.len(),
            },
        })
    }

    /// As [`Entry::file`], to be executed.
    ///
    /// # Errors
    /// As [`Entry::file`].
    pub(crate) fn program(name: &str, path: &Path) -> Result<Self> {
        Ok(Self {
            mode: 0o755,
            ..Self::file(name, path)?
        })
    }

    /// A symbolic link.
    pub(crate) fn link(name: &str, target: &str) -> Self {
        Self {
            name: name.to_owned(),
            mode: 0o777,
            content: Content::Link(target.to_owned()),
        }
    }

    fn folder(name: String) -> Self {
        Self {
            name,
            mode: 0o755,
            content: Content::Folder,
        }
    }
}

/// Writes an archive with the folders of its files, and gives the SHA-256 of it and its length.
///
/// # Errors
/// When a file cannot be read or written, changes while it is read, or has too long a name.
pub(crate) fn write(to: File, entries: Vec<Entry>) -> Result<(String, u64)> {
    let mut sorted = BTreeMap::new();
    for entry in entries {
        for (place, _) in entry.name.match_indices('/') {
            let folder = entry.name.get(..=place).unwrap_or_default().to_owned();
            sorted.insert(folder.clone(), Entry::folder(folder));
        }
        sorted.insert(entry.name.clone(), entry);
    }
    let mut out = Hashing {
        to: BufWriter::with_capacity(1 << 20, to),
        hash: Sha256::new(),
        size: 0,
    };
    for entry in sorted.values() {
        append(&mut out, entry).with_context(|| format!("adding {}", entry.name))?;
    }
    // Two empty blocks end an archive.
    out.write_all(&[0; 2 * BLOCK])?;
    out.flush()?;
    Ok((digest(out.hash), out.size))
}

/// A digest as OCI writes it.
pub(crate) fn digest(hash: Sha256) -> String {
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn append(out: &mut impl Write, entry: &Entry) -> Result<()> {
    let (kind, size, target) = match &entry.content {
        Content::Bytes(bytes) => (b'0', u64::try_from(bytes.len())?, ""),
        Content::File { size, .. } => (b'0', *size, ""),
        Content::Link(target) => (b'2', 0, target.as_str()),
        Content::Folder => (b'5', 0, ""),
    };
    out.write_all(&header(&entry.name, entry.mode, kind, size, target)?)?;
    match &entry.content {
        Content::Bytes(bytes) => out.write_all(bytes)?,
        Content::File { path, size } => {
            let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
            // One byte more than promised is enough to see that the file grew.
            let copied = io::copy(&mut file.take(*size + 1), out)?;
            if copied != *size {
                bail!("{} changed while it was read; run it again", path.display());
            }
        }
        Content::Link(_) | Content::Folder => {}
    }
    let rest = usize::try_from(size % BLOCK as u64)?;
    if rest > 0 {
        out.write_all(&vec![0; BLOCK - rest])?;
    }
    Ok(())
}

fn header(name: &str, mode: u32, kind: u8, size: u64, target: &str) -> Result<Vec<u8>> {
    for text in [name, target] {
        if text.len() > NAME_LEN_MAX {
            bail!("{text:?} is longer than {NAME_LEN_MAX} bytes");
        }
    }
    let mut header = Vec::with_capacity(BLOCK);
    let mut field = |text: &str, length: usize| {
        header.extend_from_slice(text.as_bytes());
        header.resize(header.len() + length.saturating_sub(text.len()), 0);
    };
    field(name, 100);
    field(&format!("{mode:07o}"), 8);
    field(&format!("{:07o}", 0), 8); // owner
    field(&format!("{:07o}", 0), 8); // group
    field(&format!("{size:011o}"), 12);
    field(&format!("{:011o}", 0), 12); // time
    field("        ", 8); // checksum, blank while it is summed up
    field(&char::from(kind).to_string(), 1);
    field(target, 100);
    field("ustar\u{0}00", 8);
    field("", 32 + 32 + 8 + 8 + 155 + 12);
    let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
    let sum = format!("{sum:06o}\u{0} ");
    for (place, byte) in header.iter_mut().skip(148).zip(sum.bytes()) {
        *place = byte;
    }
    Ok(header)
}

struct Hashing<W> {
    to: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.hash.update(bytes.get(..count).unwrap_or_default());
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
