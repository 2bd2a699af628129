//! Reading and removing the stored kinds, with their mark of deletion.
//!
//! An object is removed in two steps: it is marked by compare-and-swap, which decides, and then deleted by its UID. A
//! process that dies in between leaves a marked object; whoever reads it next deletes it and sees nothing.
//! Source: `libcalico-go/lib/backend/k8s/resources/ipam_*.go`.

use std::future::Future;
use std::time::Duration;

use caracal_api::names::{affinity_name, block_name, handle_name};
use caracal_api::v3::{BlockAffinity, IPAMBlock, IPAMConfiguration, IPAMConfigurationSpec, IPAMHandle};
use caracal_datastore::{Client, ListOptions, Object, Preconditions, Result};
use ipnet::IpNet;

use crate::clock;
use crate::step::{Step, is_left_out};

/// How often a request without harm is repeated while the server does not answer.
const READ_RETRIES: usize = 3;
/// First pause between them; doubles each time.
const READ_PAUSE: Duration = Duration::from_millis(20);
/// Name of the one IPAMConfiguration.
const CONFIGURATION: &str = "default";

/// A kind with a mark of deletion.
pub(crate) trait Marked: Object {
    /// The mark.
    fn mark(&mut self) -> &mut bool;
    /// True when the object is marked.
    fn is_marked(&self) -> bool;
}

macro_rules! marked {
    ($($kind:ty),*) => {$(
        impl Marked for $kind {
            fn mark(&mut self) -> &mut bool {
                &mut self.spec.deleted
            }
            fn is_marked(&self) -> bool {
                self.spec.deleted
            }
        }
    )*};
}

marked!(IPAMBlock, BlockAffinity, IPAMHandle);

/// The stored objects.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub(crate) client: Client,
}

impl Store {
    pub(crate) async fn block(&self, cidr: &IpNet) -> Result<Option<IPAMBlock>> {
        self.read(&block_name(cidr)).await
    }

    pub(crate) async fn affinity(&self, host: &str, cidr: &IpNet) -> Result<Option<BlockAffinity>> {
        self.read(&affinity_name(host, cidr)).await
    }

    pub(crate) async fn handle(&self, id: &str) -> Result<Option<IPAMHandle>> {
        self.read(&handle_name(id)).await
    }

    /// All objects of a kind that are not marked.
    pub(crate) async fn list<K: Marked>(&self, labels: Option<String>) -> Result<Vec<K>> {
        let mut objects = self.list_marked_too(labels).await?;
        objects.retain(|object: &K| !object.is_marked());
        Ok(objects)
    }

    /// All objects of a kind.
    pub(crate) async fn list_marked_too<K: Marked>(&self, labels: Option<String>) -> Result<Vec<K>> {
        let options = ListOptions {
            labels,
            ..ListOptions::default()
        };
        repeated(|| self.client.list(None, &options)).await
    }

    /// How addresses are managed; the defaults when nobody said.
    pub(crate) async fn configuration(&self) -> Result<IPAMConfigurationSpec> {
        let stored: Option<IPAMConfiguration> = repeated(|| self.client.get(None, CONFIGURATION)).await?;
        Ok(stored.map(|stored| stored.spec).unwrap_or_default())
    }

    pub(crate) async fn read<K: Marked>(&self, name: &str) -> Result<Option<K>> {
        let Some(object) = repeated(|| self.client.get::<K>(None, name)).await? else {
            return Ok(None);
        };
        if !object.is_marked() {
            return Ok(Some(object));
        }
        self.finish(&object).await?;
        Ok(None)
    }

    /// Writes an object in the state in which it was read.
    pub(crate) async fn write<K: Marked>(&self, object: &K) -> Result<K> {
        let step = if K::kind(&()) == "IPAMHandle" {
            Step::CompareHandle
        } else {
            Step::CompareBlock
        };
        if is_left_out(step) {
            // Whatever is there now is overwritten.
            let name = object.meta().name.clone().unwrap_or_default();
            let current = self.client.get::<K>(None, &name).await?;
            let mut blind = object.clone();
            blind.meta_mut().resource_version = current.as_ref().and_then(version);
            return self.client.update(&blind).await;
        }
        self.client.update(object).await
    }

    /// Removes an object in the state in which it was read.
    ///
    /// # Errors
    ///
    /// A conflict when it changed meanwhile. Without an error the object is marked, and so it is gone for every
    /// reader, even if the second step did not come through.
    pub(crate) async fn remove<K: Marked>(&self, object: &K) -> Result<()> {
        let mut marked = object.clone();
        *marked.mark() = true;
        let marked = if is_left_out(Step::MarkFirst) {
            marked
        } else {
            self.write(&marked).await?
        };
        if let Err(error) = self.finish(&marked).await {
            tracing::debug!(%error, "a marked object is left for its next reader to delete");
        }
        Ok(())
    }

    /// Removes an object in the state in which it was read, with one request instead of two: the server compares.
    ///
    /// # Errors
    ///
    /// A conflict when it changed meanwhile. After a lost answer it may be gone.
    pub(crate) async fn remove_at_once<K: Marked>(&self, object: &K) -> Result<()> {
        let meta = object.meta();
        let in_this_state = Preconditions {
            uid: meta.uid.clone(),
            resource_version: version(object),
        };
        let name = meta.name.as_deref().unwrap_or_default();
        self.client.delete::<K>(None, name, in_this_state).await.map(drop)
    }

    /// Deletes a marked object; another object of that name is left alone.
    async fn finish<K: Marked>(&self, object: &K) -> Result<()> {
        let meta = object.meta();
        let only_this = Preconditions {
            uid: meta.uid.clone().filter(|_| !is_left_out(Step::DeleteByUid)),
            ..Preconditions::default()
        };
        let name = meta.name.as_deref().unwrap_or_default();
        match repeated(|| self.client.delete::<K>(None, name, only_this.clone())).await {
            Err(error) if !error.is_conflict() => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// A request that may be made twice, made again a few times while the server does not answer.
pub(crate) async fn repeated<T, F>(mut request: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let mut pause = READ_PAUSE;
    for _ in 0..READ_RETRIES {
        match request().await {
            Err(error) if error.is_transient() => clock::pause(pause).await,
            result => return result,
        }
        pause *= 2;
    }
    request().await
}

/// The version of an object that was read.
pub(crate) fn version<K: Object>(object: &K) -> Option<String> {
    object.meta().resource_version.clone()
}
