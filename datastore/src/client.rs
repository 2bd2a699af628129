//! Requests for single objects and lists.
//!
//! A request is sent once, except when the server says that it is too busy and did nothing (429). Repeating anything
//! else is the caller's decision: the first attempt may have had its effect.

use std::time::Duration;

use http::{Request as HttpRequest, Response};
use kube::api::{DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams};
use kube::client::Body;
use kube::core::Request;
use serde::Deserialize;
use serde_json::Value;
use tower::{BoxError, Service};

use crate::error::{Cause, Error, Result, Verb};
use crate::object::{ListOptions, Object, Preconditions};

/// An API server that does not answer within this time counts as away.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Objects asked for at once when listing.
pub(crate) const PAGE_SIZE: u32 = 500;
/// How often a request is repeated that the server was too busy for.
const BUSY_RETRIES: usize = 4;
/// How often a list is started again because its pages had become too old.
const LIST_RESTARTS: usize = 3;

/// Access to the Kubernetes API. Clones share the connection.
#[derive(Clone)]
pub struct Client {
    kube: kube::Client,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// One page of a list.
#[derive(Deserialize)]
pub(crate) struct Page<K> {
    #[serde(default)]
    pub(crate) metadata: PageMeta,
    #[serde(default = "Vec::new")]
    pub(crate) items: Vec<K>,
}

/// Where a page stands in its list.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct PageMeta {
    pub(crate) resource_version: String,
    #[serde(rename = "continue")]
    pub(crate) continue_token: String,
}

impl Client {
    /// A client over a service that answers Kubernetes API requests: the embedded API server, layers that inject
    /// faults, a recorded server. Must be called within a tokio runtime.
    pub fn from_service<S, B>(service: S, default_namespace: &str) -> Self
    where
        S: Service<HttpRequest<Body>, Response = Response<B>> + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self::from_kube(kube::Client::new(service, default_namespace))
    }

    pub(crate) const fn from_kube(kube: kube::Client) -> Self {
        Self { kube }
    }

    /// The client below, for requests that have no method here.
    #[must_use]
    pub const fn kube(&self) -> &kube::Client {
        &self.kube
    }

    /// Reads an object; `None` when there is none of that name.
    ///
    /// # Errors
    ///
    /// Any failed request; a kind that the server does not serve is an error, not `None`.
    pub async fn get<K: Object>(&self, namespace: Option<&str>, name: &str) -> Result<Option<K>> {
        let call = Call::new::<K>(Verb::Get, namespace, name);
        call.check_name()?;
        let request = call.path::<K>().get(name, &GetParams::default());
        match self.send(&call, request).await {
            Ok(text) => call.decode(&text).map(Some),
            Err(error) if error.is_not_found() && !error.is_unknown_kind() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads all objects of a kind, of one namespace or of all, page by page.
    ///
    /// # Errors
    ///
    /// Any failed request.
    pub async fn list<K: Object>(&self, namespace: Option<&str>, options: &ListOptions) -> Result<Vec<K>> {
        let mut restarts = 0;
        loop {
            match self.list_pages(namespace, options).await {
                // The pages of a long list can become too old while it is read.
                Err(error) if error.is_gone() && restarts < LIST_RESTARTS => restarts += 1,
                result => return result,
            }
        }
    }

    async fn list_pages<K: Object>(&self, namespace: Option<&str>, options: &ListOptions) -> Result<Vec<K>> {
        let call = Call::new::<K>(Verb::List, namespace, "");
        let mut objects = Vec::new();
        let mut continue_token = None;
        loop {
            let text = self.list_page::<K>(&call, options, continue_token).await?;
            let page: Page<K> = call.decode(&text)?;
            objects.extend(page.items);
            if page.metadata.continue_token.is_empty() {
                return Ok(objects);
            }
            continue_token = Some(page.metadata.continue_token);
        }
    }

    /// The text of one page of a list.
    pub(crate) async fn list_page<K: Object>(
        &self,
        call: &Call,
        options: &ListOptions,
        continue_token: Option<String>,
    ) -> Result<String> {
        let params = ListParams {
            label_selector: options.labels.clone(),
            field_selector: options.fields.clone(),
            limit: Some(PAGE_SIZE),
            continue_token,
            ..ListParams::default()
        };
        self.send(call, call.path::<K>().list(&params)).await
    }

    /// Makes an object and returns it as stored. The namespace is that of the object's metadata.
    ///
    /// # Errors
    ///
    /// Any failed request; [`Error::is_already_exists`] when there is one of that name.
    pub async fn create<K: Object>(&self, object: &K) -> Result<K> {
        let call = Call::about(Verb::Create, object);
        let body = call.encode(object)?;
        let request = call.path::<K>().create(&PostParams::default(), body);
        let text = self.send(&call, request).await?;
        call.decode(&text)
    }

    /// Replaces an object and returns it as stored. With a resourceVersion in its metadata this is a
    /// compare-and-swap.
    ///
    /// # Errors
    ///
    /// Any failed request; [`Error::is_conflict`] when the object changed since that resourceVersion.
    pub async fn update<K: Object>(&self, object: &K) -> Result<K> {
        let call = Call::about(Verb::Update, object);
        call.check_name()?;
        let body = call.encode(object)?;
        let request = call.path::<K>().replace(&call.name, &PostParams::default(), body);
        let text = self.send(&call, request).await?;
        call.decode(&text)
    }

    /// Replaces the status of an object, under the same rules as [`Self::update`].
    ///
    /// # Errors
    ///
    /// As [`Self::update`].
    pub async fn update_status<K: Object>(&self, object: &K) -> Result<K> {
        let call = Call::about(Verb::UpdateStatus, object);
        call.check_name()?;
        let body = call.encode(object)?;
        let request =
            call.path::<K>()
                .replace_subresource("status", &call.name, &PostParams::default(), body);
        let text = self.send(&call, request).await?;
        call.decode(&text)
    }

    /// Changes fields of an object by a merge patch (RFC 7386) and returns it as stored.
    ///
    /// # Errors
    ///
    /// Any failed request; [`Error::is_not_found`] when there is no such object.
    pub async fn patch_merge<K: Object>(
        &self,
        namespace: Option<&str>,
        name: &str,
        patch: &Value,
    ) -> Result<K> {
        let call = Call::new::<K>(Verb::Patch, namespace, name);
        call.check_name()?;
        let request = call
            .path::<K>()
            .patch(name, &PatchParams::default(), &Patch::Merge(patch));
        let text = self.send(&call, request).await?;
        call.decode(&text)
    }

    /// Changes fields of an object's status by a merge patch and returns the object as stored. The patch is of the
    /// whole object: `{"status": {...}}`.
    ///
    /// # Errors
    ///
    /// As [`Self::patch_merge`].
    pub async fn patch_status<K: Object>(
        &self,
        namespace: Option<&str>,
        name: &str,
        patch: &Value,
    ) -> Result<K> {
        self.patch_status_by(namespace, name, &Patch::Merge(patch)).await
    }

    /// Changes fields of the status of a Kubernetes kind by a strategic merge patch, which joins lists by their keys:
    /// one condition is written without the others. Custom kinds do not know it.
    ///
    /// # Errors
    ///
    /// As [`Self::patch_merge`].
    pub async fn patch_status_strategic<K: Object>(
        &self,
        namespace: Option<&str>,
        name: &str,
        patch: &Value,
    ) -> Result<K> {
        self.patch_status_by(namespace, name, &Patch::Strategic(patch))
            .await
    }

    async fn patch_status_by<K: Object>(
        &self,
        namespace: Option<&str>,
        name: &str,
        patch: &Patch<&Value>,
    ) -> Result<K> {
        let call = Call::new::<K>(Verb::PatchStatus, namespace, name);
        call.check_name()?;
        let request = call
            .path::<K>()
            .patch_subresource("status", name, &PatchParams::default(), patch);
        let text = self.send(&call, request).await?;
        call.decode(&text)
    }

    /// Removes an object; false when there was none of that name.
    ///
    /// # Errors
    ///
    /// Any failed request; [`Error::is_conflict`] when a precondition does not hold.
    pub async fn delete<K: Object>(
        &self,
        namespace: Option<&str>,
        name: &str,
        preconditions: Preconditions,
    ) -> Result<bool> {
        let call = Call::new::<K>(Verb::Delete, namespace, name);
        call.check_name()?;
        let wanted = preconditions != Preconditions::default();
        let params = DeleteParams {
            preconditions: wanted.then_some(kube::api::Preconditions {
                resource_version: preconditions.resource_version,
                uid: preconditions.uid,
            }),
            ..DeleteParams::default()
        };
        let request = call.path::<K>().delete(name, &params);
        match self.send(&call, request).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() && !error.is_unknown_kind() => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn send(
        &self,
        call: &Call,
        request: Result<HttpRequest<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<String> {
        let request = request.map_err(|error| call.fail(Cause::Invalid(error.to_string())))?;
        let mut attempt = 0;
        loop {
            let error = match self.send_once(call, request.clone()).await {
                Ok(text) => return Ok(text),
                Err(error) => error,
            };
            match error.retry_after() {
                Some(pause) if attempt < BUSY_RETRIES => tokio::time::sleep(pause).await,
                _ => return Err(error),
            }
            attempt += 1;
        }
    }

    async fn send_once(&self, call: &Call, request: HttpRequest<Vec<u8>>) -> Result<String> {
        match tokio::time::timeout(REQUEST_TIMEOUT, self.kube.request_text(request)).await {
            Ok(Ok(text)) => Ok(text),
            Ok(Err(error)) => Err(call.fail(error.into())),
            Err(_) => Err(call.fail(Cause::TimedOut(REQUEST_TIMEOUT))),
        }
    }
}

/// One request as an error would name it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    verb: Verb,
    kind: String,
    namespace: Option<String>,
    name: String,
}

impl Call {
    pub(crate) fn new<K: Object>(verb: Verb, namespace: Option<&str>, name: &str) -> Self {
        Self {
            verb,
            kind: K::kind(&()).into_owned(),
            namespace: namespace.filter(|text| !text.is_empty()).map(ToOwned::to_owned),
            name: name.to_owned(),
        }
    }

    fn about<K: Object>(verb: Verb, object: &K) -> Self {
        let meta = object.meta();
        Self::new::<K>(
            verb,
            meta.namespace.as_deref(),
            meta.name.as_deref().unwrap_or_default(),
        )
    }

    pub(crate) fn path<K: Object>(&self) -> Request {
        Request::new(K::url_path(&(), self.namespace.as_deref()))
    }

    /// Refuses a name that would change the path of the request.
    fn check_name(&self) -> Result<()> {
        let name = &self.name;
        let bad = |c: char| matches!(c, '/' | '?' | '#' | '%' | '\\') || c.is_whitespace() || c.is_control();
        let problem = if name.is_empty() {
            "the name is empty"
        } else if name == "." || name == ".." || name.contains(bad) {
            "the name has characters that no object's name may have"
        } else {
            return Ok(());
        };
        Err(self.fail(Cause::Invalid(format!(
            "{problem}; use lower-case letters, digits, '-' and '.'"
        ))))
    }

    fn encode<K: Object>(&self, object: &K) -> Result<Vec<u8>> {
        serde_json::to_vec(object).map_err(|error| self.fail(Cause::Invalid(error.to_string())))
    }

    pub(crate) fn decode<T: serde::de::DeserializeOwned>(&self, text: &str) -> Result<T> {
        serde_json::from_str(text).map_err(|error| self.fail(Cause::Undecodable(error.to_string())))
    }

    pub(crate) fn fail(&self, cause: Cause) -> Error {
        let target = match (&self.namespace, self.name.as_str()) {
            (Some(namespace), "") => format!("in namespace {namespace}"),
            (Some(namespace), name) => format!("{namespace}/{name}"),
            (None, name) => name.to_owned(),
        };
        Error::Request {
            verb: self.verb,
            kind: self.kind.clone(),
            target,
            cause: Box::new(cause),
        }
    }
}
