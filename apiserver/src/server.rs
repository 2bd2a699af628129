//! The server: store and served resources together, filled at the start with what every cluster has.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use serde_json::{Value, json};

use crate::backend::{BackendError, RedbBackend};
use crate::health::Counts;
use crate::pages::Pages;
use crate::request::{Query, ResourcePath};
use crate::resource::{self, DEFINITIONS, Resource};
use crate::service::ApiService;
use crate::status::ApiError;
use crate::store::{HistoryLimits, ObjectKey, Store};
use crate::tokens::Tokens;

/// Settings of a server.
#[derive(Clone)]
pub struct Options {
    /// How many changes of each kind watches may look back.
    pub history_events: usize,
    /// How many bytes of changes of each kind are kept for that.
    pub history_bytes: usize,
    /// What the tokens of service accounts are signed with; without it they end with this process.
    pub token_secret: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            history_events: 4096,
            history_bytes: 4 << 20,
            token_secret: None,
        }
    }
}

/// Why a server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be made or read.
    #[error("cannot use the data directory {}: {source}; give one that this user may write to", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The store in it cannot be used.
    #[error(transparent)]
    Store(#[from] BackendError),
    /// What every cluster has could not be written.
    #[error("cannot write the first objects: {0}")]
    First(#[from] ApiError),
}

/// Why an object could not be added.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct AddError(String);

/// What a definition defines, and the revision that it was read at.
type Defined = (u64, Vec<Arc<Resource>>);

pub(crate) struct Shared {
    pub(crate) store: Arc<Store>,
    resources: RwLock<Arc<Vec<Arc<Resource>>>>,
    /// What was read of the definitions, by their names.
    defined: Mutex<HashMap<String, Defined>>,
    pub(crate) pages: Pages,
    pub(crate) tokens: Tokens,
    pub(crate) counts: Counts,
    /// When events were looked through last.
    pub(crate) swept: Mutex<std::time::Instant>,
}

/// An API server. Clones are the same server.
#[derive(Clone)]
pub struct ApiServer {
    pub(crate) shared: Arc<Shared>,
}

impl ApiServer {
    /// A server that keeps everything in memory, with all kinds of `caracal_api` and the usual namespaces.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::in_memory_with(Options::default())
    }

    /// As [`ApiServer::in_memory`], with settings.
    #[must_use]
    pub fn in_memory_with(options: Options) -> Self {
        let server = Self::over(Store::in_memory(limits(&options)), tokens(&options));
        // Memory answers at once; nothing in here waits.
        if let Some(Err(error)) = futures::FutureExt::now_or_never(server.write_first()) {
            tracing::error!(%error, "the first objects could not be written");
        }
        server
    }

    /// A server over the store in `directory`, which is made when absent.
    ///
    /// # Errors
    /// When the directory or the store in it cannot be used, or the store is from a newer program.
    pub async fn open(directory: &Path, options: Options) -> Result<Self, OpenError> {
        let unusable = |source| OpenError::Directory {
            path: directory.to_owned(),
            source,
        };
        std::fs::create_dir_all(directory).map_err(unusable)?;
        let (backend, loaded) = RedbBackend::open(directory)?;
        let store = Store::durable(Box::new(backend), loaded, limits(&options)).map_err(unusable)?;
        let server = Self::over(store, tokens(&options));
        server.refresh_resources();
        server.write_first().await?;
        server.resume_deletions().await?;
        Ok(server)
    }

    fn over(store: Arc<Store>, tokens: Tokens) -> Self {
        let resources = RwLock::new(Arc::new(resource::built_in()));
        Self {
            shared: Arc::new(Shared {
                store,
                resources,
                defined: Mutex::default(),
                pages: Pages::default(),
                tokens,
                counts: Counts::default(),
                swept: Mutex::new(std::time::Instant::now()),
            }),
        }
    }

    /// The server as a service; clones of it are cheap. Whoever holds it may do everything.
    #[must_use]
    pub fn service(&self) -> ApiService {
        ApiService { server: self.clone() }
    }

    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.shared.store
    }

    pub(crate) fn resources(&self) -> Arc<Vec<Arc<Resource>>> {
        Arc::clone(
            &self
                .shared
                .resources
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    pub(crate) fn resource(&self, path: &ResourcePath) -> Result<Arc<Resource>, ApiError> {
        let resources = self.resources();
        let found = resources.iter().find(|resource| {
            resource.group == path.group
                && resource.version == path.version
                && resource.plural == path.resource
        });
        let resource = found.cloned().ok_or_else(ApiError::no_such_path)?;
        match (&path.namespace, resource.namespaced) {
            (Some(_), false) => Err(ApiError::no_such_path()),
            (None, true) if path.name.is_some() => Err(ApiError::no_such_path()),
            _ => Ok(resource),
        }
    }

    /// Reads the definitions again, so that what they define is served.
    pub(crate) fn refresh_resources(&self) {
        let mut resources = resource::built_in();
        let mut defined = self.shared.defined.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *defined);
        for definition in self.store().list(&DEFINITIONS.into(), None).objects {
            let name = definition.key.name.clone();
            let entry = match before.remove(&name) {
                Some(same) if same.0 == definition.revision => same,
                _ => (definition.revision, resource::defined(&definition.value())),
            };
            resources.extend(entry.1.iter().cloned());
            defined.insert(name, entry);
        }
        *self
            .shared
            .resources
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(resources);
    }

    async fn write_first(&self) -> Result<(), ApiError> {
        for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            self.ensure("", "namespaces", None, json!({"metadata": {"name": name}}))
                .await?;
            let account = json!({"metadata": {"name": "default"}});
            self.ensure("", "serviceaccounts", Some(name), account).await?;
        }
        for definition in caracal_api::crd::all() {
            let value =
                serde_json::to_value(definition).map_err(|error| ApiError::internal(error.to_string()))?;
            self.ensure("apiextensions.k8s.io", "customresourcedefinitions", None, value)
                .await?;
        }
        Ok(())
    }

    /// Creates an object of any served kind unless there is one; namespaced ones without a namespace go to `default`.
    ///
    /// # Errors
    /// When its kind is not served, or it is refused.
    pub async fn add(&self, value: Value) -> Result<(), AddError> {
        let text = |pointer| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (api_version, kind) = (text("/apiVersion"), text("/kind"));
        let found = self
            .resources()
            .iter()
            .find(|resource| resource.api_version() == api_version && resource.kind == kind)
            .cloned();
        let Some(resource) = found else {
            return Err(AddError(format!(
                "apiVersion {api_version:?} with kind {kind:?} is not served; add its CustomResourceDefinition first"
            )));
        };
        let namespace = match (resource.namespaced, text("/metadata/namespace")) {
            (false, _) => None,
            (true, "") => Some("default".to_owned()),
            (true, namespace) => Some(namespace.to_owned()),
        };
        let (group, plural) = (resource.group.clone(), resource.plural.clone());
        self.ensure(&group, &plural, namespace.as_deref(), value)
            .await
            .map_err(|error| AddError(error.to_string()))
    }

    /// Creates an object unless there is one.
    pub(crate) async fn ensure(
        &self,
        group: &str,
        resource: &str,
        namespace: Option<&str>,
        value: Value,
    ) -> Result<(), ApiError> {
        let path = ResourcePath {
            group: group.to_owned(),
            version: "v1".to_owned(),
            namespace: namespace.map(str::to_owned),
            resource: resource.to_owned(),
            ..ResourcePath::default()
        };
        let served = self.resource(&path)?;
        // A start finds nearly everything there: what is there need not be read, checked and compiled again.
        let name = value.pointer("/metadata/name").and_then(Value::as_str);
        let key = ObjectKey::new(namespace.unwrap_or_default(), name.unwrap_or_default());
        if name.is_some() && self.store().latest(&served.storage, &key).is_some() {
            return Ok(());
        }
        match self
            .create(&served, namespace.unwrap_or_default(), value, &Query::default())
            .await
        {
            Ok(_) => Ok(()),
            Err(error) if error.reason == "AlreadyExists" => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn tokens(options: &Options) -> Tokens {
    options
        .token_secret
        .as_deref()
        .map_or_else(Tokens::random, Tokens::of)
}

fn limits(options: &Options) -> HistoryLimits {
    HistoryLimits {
        events: options.history_events.max(1),
        bytes: options.history_bytes.max(1),
    }
}
