//! Where changes are kept: one redb file, written by one thread, each commit durable before it is answered.
//!
//! Layout: table `objects` (collection, NUL, namespace, NUL, name → JSON), table `changed` (collection → the revision
//! of its newest change), table `meta` (`format`, `revision`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use crate::store::ObjectKey;

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
    /// The file cannot be opened.
    #[error("cannot open the store {}: {source}; another server may be using it, or it is damaged (it was left as it is)", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What redb says.
        source: redb::DatabaseError,
    },
    /// The file is from a newer program.
    #[error("the store {} has format {found}, and this program knows up to {FORMAT}: use the newer program (the file was left as it is)", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// Reading or writing failed.
    #[error("the store failed: {0}")]
    Failed(#[from] redb::Error),
}

fn failed(error: impl Into<redb::Error>) -> BackendError {
    BackendError::Failed(error.into())
}

pub(crate) struct RedbBackend {
    database: Database,
}

impl RedbBackend {
    /// Opens the store in `directory`, which must exist, and reads all of it.
    pub(crate) fn open(directory: &Path) -> Result<(Self, Loaded), BackendError> {
        let path = directory.join(FILE);
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create(&path)
            .map_err(|source| BackendError::Open {
                path: path.clone(),
                source,
            })?;
        let loaded = load(&database, &path)?;
        Ok((Self { database }, loaded))
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
        let key = String::from_utf8_lossy(key.value()).into_owned();
        let mut parts = key.splitn(3, '\0');
        let (Some(collection), Some(namespace), Some(name)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
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
        let write = self.database.begin_write().map_err(failed)?;
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
}
