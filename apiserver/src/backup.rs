//! Backups: all objects of one moment as lines of JSON, and stores made of them.
//!
//! First line: what it is, its format, the revision. Then an object a line. Last line: how many there were and their
//! digest, so that a backup that was cut short is noticed.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::backend::{Backend as _, BackendError, Loaded, Record, RedbBackend, file_in, look};
use crate::server::ApiServer;
use crate::store::ObjectKey;

const KIND: &str = "caracal-apiserver backup";
const FORMAT: u64 = 1;
/// Revisions after a restore begin this much later: no client may take one from before for one from after.
const REVISION_GAP: u64 = 1_000_000_000;
/// A line is an object, and objects are bounded.
const LINE_MAX: usize = 8 << 20;
const COMMIT: usize = 512;

/// Why a backup could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Reading or writing failed.
    #[error("cannot read or write the backup: {0}")]
    Io(#[from] std::io::Error),
    /// It is none, or only a part of one.
    #[error("line {line} of the backup: {why}; nothing was restored")]
    Bad {
        /// Which line.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// There is a store already.
    #[error("there is a store already: {}; restore into another directory, or move it away first", path.display())]
    Exists {
        /// The store.
        path: PathBuf,
    },
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] BackendError),
}

struct Writer<W> {
    to: W,
    digest: Sha256,
    count: u64,
}

impl<W: Write> Writer<W> {
    fn begin(mut to: W, revision: u64) -> std::io::Result<Self> {
        writeln!(
            to,
            "{}",
            json!({"kind": KIND, "format": FORMAT, "revision": revision})
        )?;
        Ok(Self {
            to,
            digest: Sha256::new(),
            count: 0,
        })
    }

    fn object(&mut self, collection: &str, key: &ObjectKey, json: &[u8]) -> std::io::Result<()> {
        let place = json!([collection, key.namespace, key.name]);
        let mut line = format!("{{\"at\":{place},\"object\":").into_bytes();
        line.extend_from_slice(json);
        line.extend_from_slice(b"}\n");
        self.digest.update(&line);
        self.count += 1;
        self.to.write_all(&line)
    }

    fn end(mut self) -> std::io::Result<u64> {
        let digest = hex(&self.digest.finalize());
        writeln!(self.to, "{}", json!({"objects": self.count, "sha256": digest}))?;
        self.to.flush()?;
        Ok(self.count)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl ApiServer {
    /// Writes everything that is durable at one moment. Others may go on reading and writing meanwhile.
    ///
    /// # Errors
    /// When `to` cannot be written.
    pub fn backup(&self, to: impl Write) -> Result<u64, BackupError> {
        let snapshot = self.store().snapshot();
        let mut writer = Writer::begin(to, snapshot.revision)?;
        for (collection, object) in &snapshot.objects {
            writer.object(collection, &object.key, &object.json)?;
        }
        Ok(writer.end()?)
    }
}

/// Writes a backup of the store in `directory`, which no server may be using.
///
/// # Errors
/// When there is no store, it cannot be read, or `to` cannot be written.
pub fn backup_directory(directory: &Path, to: impl Write) -> Result<u64, BackupError> {
    let path = file_in(directory);
    if !path.exists() {
        let why = format!("there is no store {}", path.display());
        return Err(std::io::Error::new(std::io::ErrorKind::NotFound, why).into());
    }
    let loaded = look(&path)?;
    let mut writer = Writer::begin(to, loaded.revision)?;
    for (collection, key, json) in &loaded.objects {
        writer.object(collection, key, json)?;
    }
    Ok(writer.end()?)
}

fn bad(line: usize, why: impl ToString) -> BackupError {
    BackupError::Bad {
        line,
        why: why.to_string(),
    }
}

/// The next line, without its end; nothing when there is none.
fn next_line(from: &mut impl BufRead, number: usize) -> Result<Option<Vec<u8>>, BackupError> {
    let mut line = Vec::new();
    let limit = u64::try_from(LINE_MAX).unwrap_or(u64::MAX);
    let read = std::io::Read::take(&mut *from, limit).read_until(b'\n', &mut line)?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) if read >= LINE_MAX => Err(bad(number, "it is longer than any object can be")),
        Some(_) => Err(bad(number, "the backup was cut short here")),
    }
}

/// Reads a backup, and believes it only when its end fits.
fn read(from: impl std::io::Read) -> Result<Loaded, BackupError> {
    let mut from = BufReader::new(from);
    let first = next_line(&mut from, 1)?.ok_or_else(|| bad(1, "the backup is empty"))?;
    let head: Value = serde_json::from_slice(&first).map_err(|error| bad(1, error))?;
    if head["kind"] != KIND {
        return Err(bad(
            1,
            format!("this is no backup of caracal-apiserver: kind is {}", head["kind"]),
        ));
    }
    if head["format"] != FORMAT {
        let why = format!(
            "format {} is not known, {FORMAT} is: use the program that wrote it",
            head["format"]
        );
        return Err(bad(1, why));
    }
    let revision = head["revision"]
        .as_u64()
        .ok_or_else(|| bad(1, "revision is no number"))?;
    let mut loaded = Loaded {
        revision: revision.saturating_add(REVISION_GAP),
        ..Loaded::default()
    };
    let mut digest = Sha256::new();
    for number in 2.. {
        let line = next_line(&mut from, number)?;
        let line = line.ok_or_else(|| bad(number, "the backup was cut short: its last line is missing"))?;
        let value: Value = serde_json::from_slice(&line).map_err(|error| bad(number, error))?;
        if let Some(count) = value.get("objects") {
            let found = hex(&digest.finalize());
            if *count != loaded.objects.len() || value["sha256"] != found.as_str() {
                return Err(bad(
                    number,
                    "the backup is not as it was written: count or digest differ",
                ));
            }
            return Ok(loaded);
        }
        digest.update(&line);
        digest.update(b"\n");
        let at = |index: usize| value["at"][index].as_str().map(str::to_owned);
        let (Some(collection), Some(namespace), Some(name), true) =
            (at(0), at(1), at(2), value["object"].is_object())
        else {
            return Err(bad(number, "it is no object"));
        };
        let json = value["object"].to_string().into_bytes();
        loaded.changed.insert(collection.clone(), loaded.revision);
        loaded
            .objects
            .push((collection, ObjectKey::new(&namespace, &name), json));
    }
    Err(bad(usize::MAX, "the backup has no end"))
}

/// Makes a store in `directory`, where none may be, from a backup. Returns how many objects it has.
///
/// # Errors
/// When the backup is not whole, or the store exists or cannot be written. Then there is no store.
pub fn restore(directory: &Path, from: impl std::io::Read) -> Result<usize, BackupError> {
    let path = file_in(directory);
    if path.exists() {
        return Err(BackupError::Exists { path });
    }
    let loaded = read(from)?;
    std::fs::create_dir_all(directory)?;
    let unfinished = directory.join("restore.unfinished");
    let _ = std::fs::remove_dir_all(&unfinished);
    std::fs::create_dir(&unfinished)?;
    let result = fill(&unfinished, &loaded);
    let result = result.and_then(|()| {
        std::fs::rename(file_in(&unfinished), &path)?;
        std::fs::File::open(directory)?.sync_all()?;
        Ok(loaded.objects.len())
    });
    let _ = std::fs::remove_dir_all(&unfinished);
    result
}

fn fill(directory: &Path, loaded: &Loaded) -> Result<(), BackupError> {
    let (mut backend, _) = RedbBackend::open(directory)?;
    for part in loaded.objects.chunks(COMMIT) {
        let records: Vec<Record<'_>> = part
            .iter()
            .map(|(collection, key, json)| Record {
                collection,
                key,
                revision: loaded.revision,
                json: Some(json),
            })
            .collect();
        backend.commit(&records)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::server::Options;

    fn map(name: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "v\n<>&é"}})
    }

    #[tokio::test]
    async fn what_was_backed_up_is_restored_and_nothing_less() {
        let directory = tempfile::tempdir().unwrap();
        let (first, second) = (directory.path().join("a"), directory.path().join("b"));
        let server = ApiServer::open(&first, Options::default()).await.unwrap();
        for number in 0..50 {
            server.add(map(&format!("m{number}"))).await.unwrap();
        }
        let mut backup = Vec::new();
        let count = server.backup(&mut backup).unwrap();
        let everything = |server: &ApiServer| {
            let mut all: BTreeMap<String, Value> = BTreeMap::new();
            for (collection, object) in server.store().snapshot().objects {
                all.insert(format!("{collection} {:?}", object.key), object.value());
            }
            all
        };
        let before = everything(&server);
        let revision = server.store().revision();
        // A second server may not have it, nor be restored over it.
        let error = backup_directory(&first, Vec::new()).unwrap_err();
        assert!(error.to_string().contains("in use"), "{error}");
        let error = restore(&first, &*backup).unwrap_err();
        assert!(error.to_string().contains("there is a store already"), "{error}");
        // A backup that lost its end, anywhere, or of which a byte differs, makes no store.
        for cut in (0..backup.len()).step_by(backup.len() / 40) {
            let error = restore(&second, &backup[..cut]).unwrap_err();
            assert!(matches!(error, BackupError::Bad { .. }), "{error}");
            assert!(!file_in(&second).exists());
        }
        let text = String::from_utf8(backup.clone()).unwrap();
        let error = restore(&second, text.replacen("m49", "m50", 1).as_bytes()).unwrap_err();
        assert!(error.to_string().contains("not as it was written"), "{error}");
        assert_eq!(u64::try_from(restore(&second, &*backup).unwrap()).unwrap(), count);
        let restored = ApiServer::open(&second, Options::default()).await.unwrap();
        assert_eq!(everything(&restored), before);
        assert!(restored.store().revision() >= revision + REVISION_GAP);
    }
}
