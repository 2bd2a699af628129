//! Where changes are kept: one redb file, written by one thread, each commit durable before it is answered.
//!
//! Layout: table `objects` (collection, NUL, namespace, NUL, name → JSON), table `changed` (collection → the revision
//! of its newest change), table `meta` (`format`, `revision`).

mod overlay;

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use crate::store::ObjectKey;
use overlay::Overlay;

const OBJECTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("objects");
const CHANGED: TableDefinition<'_, &str, u64> = TableDefinition::new("changed");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// The layout that this code writes. A newer one is refused.
const FORMAT: u64 = 1;
const CACHE_BYTES: usize = 4 << 20;
const FILE: &str = "state.redb";

/// What a commit writes of one object; no JSON removes it.
pub(crate) struct Record<'a> {
    pub(crate) collection: &'a str,
    pub(crate) key: &'a ObjectKey,
    pub(crate) revision: u64,
    pub(crate) json: Option<&'a [u8]>,
}

/// Everything that was stored.
#[derive(Default)]
pub(crate) struct Loaded {
    pub(crate) revision: u64,
    pub(crate) objects: Vec<(String, ObjectKey, Vec<u8>)>,
    pub(crate) changed: BTreeMap<String, u64>,
}

/// Keeps changes.
pub(crate) trait Backend: Send {
    /// Returns when all of `records` are durable; on an error none of them is.
    fn commit(&mut self, records: &[Record<'_>]) -> Result<(), BackendError>;
}

/// Why the file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// Another process has it open.
    #[error("the store {} is in use by another server: end that one, or give this one another directory", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file is cut short, damaged, or no store at all.
    #[error("the store {} is damaged ({why}); it was left as it is: restore a backup into another directory, or move the file away to begin anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// The file is from a newer program.
    #[error("the store {} has format {found}, and this program knows up to {FORMAT}: use the newer program (the file was left as it is)", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// The file cannot be opened.
    #[error("cannot open the store {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Reading or writing failed.
    #[error("the store failed: {0}")]
    Failed(#[from] redb::Error),
}

impl BackendError {
    /// The disk is full (or the user's part of it is).
    pub(crate) fn is_full(&self) -> bool {
        let Self::Failed(redb::Error::Io(error)) = self else {
            return false;
        };
        matches!(
            error.kind(),
            ErrorKind::StorageFull
                | ErrorKind::QuotaExceeded
                | ErrorKind::FileTooLarge
                | ErrorKind::WriteZero
        )
    }
}

fn failed(error: impl Into<redb::Error>) -> BackendError {
    BackendError::Failed(error.into())
}

pub(crate) struct RedbBackend {
    path: PathBuf,
    /// Absent after a commit failed: what the library knows of the file then is not to be relied on.
    database: Option<Database>,
}

/// The store of a data directory.
pub(crate) fn file_in(directory: &Path) -> PathBuf {
    directory.join(FILE)
}

/// Runs what reads a file that may hold anything; a library that gives up is an error like others.
fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T, BackendError>) -> Result<T, BackendError> {
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let why = text
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("it cannot be read");
        Err(damaged(path, why))
    })
}

fn damaged(path: &Path, why: impl ToString) -> BackendError {
    BackendError::Damaged {
        path: path.to_owned(),
        why: why.to_string(),
    }
}

fn opened(path: &Path, error: redb::DatabaseError) -> BackendError {
    match error {
        redb::DatabaseError::DatabaseAlreadyOpen => BackendError::InUse {
            path: path.to_owned(),
        },
        redb::DatabaseError::Storage(redb::StorageError::Io(source))
            if source.kind() != ErrorKind::InvalidData =>
        {
            BackendError::Open {
                path: path.to_owned(),
                source,
            }
        }
        other => damaged(path, other),
    }
}

/// Reads a store without changing its file. One that is not there, or empty, holds nothing.
pub(crate) fn look(path: &Path) -> Result<Loaded, BackendError> {
    let unreadable = |source| BackendError::Open {
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Loaded::default()),
        Err(error) => return Err(unreadable(error)),
    };
    match file.try_lock_shared() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(BackendError::InUse {
                path: path.to_owned(),
            });
        }
        Err(TryLockError::Error(error)) => return Err(unreadable(error)),
    }
    if file.metadata().map_err(unreadable)?.len() == 0 {
        return Ok(Loaded::default());
    }
    guarded(path, || {
        let overlay = Overlay::over(file).map_err(unreadable)?;
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        // Whatever is wrong with what the file says is damage: the system has let us read it.
        let database = builder
            .create_with_backend(overlay)
            .map_err(|error| damaged(path, error))?;
        load(&database, path).map_err(|error| match error {
            BackendError::Failed(error) => damaged(path, error),
            other => other,
        })
    })
}

impl RedbBackend {
    /// Opens the store in `directory`, which must exist, and reads all of it.
    pub(crate) fn open(directory: &Path) -> Result<(Self, Loaded), BackendError> {
        let path = file_in(directory);
        let loaded = look(&path)?;
        let mut backend = Self { path, database: None };
        backend.database()?;
        Ok((backend, loaded))
    }

    fn database(&mut self) -> Result<&Database, BackendError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => guarded(&self.path, || {
                let mut builder = Database::builder();
                builder.set_cache_size(CACHE_BYTES);
                builder
                    .create(&self.path)
                    .map_err(|error| opened(&self.path, error))
            })?,
        };
        Ok(self.database.insert(database))
    }
}

fn load(database: &Database, path: &Path) -> Result<Loaded, BackendError> {
    let mut loaded = Loaded::default();
    let read = database.begin_read().map_err(failed)?;
    let meta = match read.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(loaded),
        Err(error) => return Err(failed(error)),
    };
    let number = |key: &str| {
        meta.get(key)
            .map(|found| found.map_or(0, |value| value.value()))
            .map_err(failed)
    };
    let found = number("format")?;
    if found > FORMAT {
        return Err(BackendError::Newer {
            path: path.to_owned(),
            found,
        });
    }
    loaded.revision = number("revision")?;
    for entry in read.open_table(CHANGED).map_err(failed)?.iter().map_err(failed)? {
        let (name, revision) = entry.map_err(failed)?;
        loaded.changed.insert(name.value().to_owned(), revision.value());
    }
    for entry in read.open_table(OBJECTS).map_err(failed)?.iter().map_err(failed)? {
        let (key, json) = entry.map_err(failed)?;
        let key = std::str::from_utf8(key.value()).map_err(|error| damaged(path, error))?;
        let mut parts = key.splitn(3, '\0');
        let (Some(collection), Some(namespace), Some(name)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(damaged(path, format!("a key {key:?} that is none")));
        };
        if serde_json::from_slice::<serde::de::IgnoredAny>(json.value()).is_err() {
            return Err(damaged(
                path,
                format!("{collection} {namespace}/{name} is no JSON"),
            ));
        }
        loaded.objects.push((
            collection.to_owned(),
            ObjectKey::new(namespace, name),
            json.value().to_vec(),
        ));
    }
    Ok(loaded)
}

impl Backend for RedbBackend {
    fn commit(&mut self, records: &[Record<'_>]) -> Result<(), BackendError> {
        let result = write(self.database()?, records);
        if result.is_err() {
            self.database = None;
        }
        result
    }
}

fn write(database: &Database, records: &[Record<'_>]) -> Result<(), BackendError> {
    let write = database.begin_write().map_err(failed)?;
    {
        let mut objects = write.open_table(OBJECTS).map_err(failed)?;
        let mut changed = write.open_table(CHANGED).map_err(failed)?;
        let mut meta = write.open_table(META).map_err(failed)?;
        for record in records {
            let key = format!(
                "{}\0{}\0{}",
                record.collection, record.key.namespace, record.key.name
            );
            match record.json {
                Some(json) => drop(objects.insert(key.as_bytes(), json).map_err(failed)?),
                None => drop(objects.remove(key.as_bytes()).map_err(failed)?),
            }
            changed
                .insert(record.collection, record.revision)
                .map_err(failed)?;
            meta.insert("revision", record.revision).map_err(failed)?;
        }
        meta.insert("format", FORMAT).map_err(failed)?;
    }
    write.commit().map_err(failed)
}

#[cfg(test)]
mod tests;
