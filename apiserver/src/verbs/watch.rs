//! Watches: a cursor over the history of a kind. A watch buffers nothing; one that is too slow is told 410.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::{Response, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::read::check_fields;
use crate::request::Query;
use crate::resource::Resource;
use crate::selector::Selector;
use crate::server::ApiServer;
use crate::service::ResponseBody;
use crate::status::ApiError;
use crate::store::{Change, ChangeKind, Found, Object, Store, watch_line};
use crate::view::View;

const BATCH: usize = 256;
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(30);
const DEFAULT_TIMEOUT_SECONDS: u64 = 1800;

struct Watch {
    store: Arc<Store>,
    collection: Arc<str>,
    namespace: Option<String>,
    selector: Selector,
    cursor: u64,
    /// What there was at the start and is still to be told, encoded when it is read.
    initial: std::vec::IntoIter<Arc<Object>>,
    /// After that, a bookmark says that it was all.
    marks_initial: bool,
    ready: VecDeque<Bytes>,
    signal: tokio::sync::watch::Receiver<u64>,
    bookmark: Option<Bookmark>,
    view: View,
    /// Something was told already.
    told: bool,
    end: Instant,
    ended: bool,
}

struct Bookmark {
    kind: String,
    version: String,
    next: Instant,
}

impl Bookmark {
    fn object(&self, revision: u64, initial: bool) -> Value {
        let mut object = json!({"kind": self.kind, "apiVersion": self.version,
            "metadata": {"resourceVersion": revision.to_string()}});
        if initial {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        object
    }
}

/// The version that a watch starts from.
fn start_of(query: &Query) -> Result<u64, ApiError> {
    query
        .number("resourceVersion")
        .map(|number| number.unwrap_or(0))
        .map_err(|error| {
            let message = error.message.replace("invalid resource version: ", "");
            ApiError::new(500, "", message)
        })
}

impl ApiServer {
    pub(crate) fn watch(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        query: &Query,
        fields: &str,
        view: View,
    ) -> Result<Response<ResponseBody>, ApiError> {
        super::options::reading(query, true)?;
        let selector = Selector::parse(query.get("labelSelector"), fields)?;
        check_fields(resource, &selector)?;
        let seconds = query.number("timeoutSeconds")?.filter(|seconds| *seconds > 0);
        let now = Instant::now();
        let bookmark = query.is_true("allowWatchBookmarks").then(|| Bookmark {
            kind: resource.kind.clone(),
            version: resource.api_version(),
            next: now + BOOKMARK_INTERVAL,
        });
        let mut watch = Watch {
            store: Arc::clone(self.store()),
            collection: Arc::clone(&resource.storage),
            namespace: namespace.map(str::to_owned),
            selector,
            cursor: start_of(query)?,
            initial: Vec::new().into_iter(),
            marks_initial: false,
            ready: VecDeque::new(),
            signal: self.store().subscribe(&resource.storage),
            bookmark,
            view,
            told: false,
            end: now + Duration::from_secs(seconds.unwrap_or(DEFAULT_TIMEOUT_SECONDS).min(86_400)),
            ended: false,
        };
        let initial = query.is_true("sendInitialEvents");
        if watch.cursor == 0 || initial {
            watch.start_with_everything(initial);
        }
        let lines = stream::unfold(watch, |mut watch| async {
            let line = watch.next().await?;
            Some((Ok::<_, Infallible>(Frame::data(line)), watch))
        });
        let mut response = Response::new(StreamBody::new(lines).boxed_unsync());
        let json = header::HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        Ok(response)
    }
}

impl Watch {
    fn start_with_everything(&mut self, initial: bool) {
        let listing = self.store.list(&self.collection, self.namespace.as_deref());
        self.cursor = listing.revision;
        self.initial = listing.objects.into_iter();
        self.marks_initial = initial;
    }

    /// The next line of what there was at the start.
    fn next_initial(&mut self) -> Option<Bytes> {
        let selector = &self.selector;
        if let Some(object) = self.initial.find(|object| selector.matches(&object.attributes)) {
            self.tell(ChangeKind::Added, &object);
        } else if std::mem::take(&mut self.marks_initial) {
            self.tell_bookmark(true);
        }
        self.ready.pop_front()
    }

    fn tell(&mut self, kind: ChangeKind, object: &Object) {
        let object = self.view.one(object, !self.told);
        self.told = true;
        self.ready.push_back(watch_line(kind.name(), &object));
    }

    fn tell_bookmark(&mut self, initial: bool) {
        if let Some(bookmark) = &self.bookmark {
            let object = bookmark.object(self.cursor, initial);
            let object = self.view.value(&object, !self.told).to_string();
            self.told = true;
            self.ready.push_back(watch_line("BOOKMARK", object.as_bytes()));
        }
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.ready.pop_front().or_else(|| self.next_initial()) {
                return Some(line);
            }
            if self.ended {
                return None;
            }
            // Marked before looking, so that no change is missed between looking and waiting.
            self.signal.borrow_and_update();
            self.look();
            if !self.ready.is_empty() {
                continue;
            }
            let bookmark_at = self
                .bookmark
                .as_ref()
                .map_or(self.end, |bookmark| bookmark.next.min(self.end));
            tokio::select! {
                changed = self.signal.changed() => self.ended |= changed.is_err(),
                () = tokio::time::sleep_until(bookmark_at) => self.bookmark_or_end(),
            }
        }
    }

    fn look(&mut self) {
        match self.store.changes_after(&self.collection, self.cursor, BATCH) {
            Found::Forgotten { oldest } => {
                let message = format!("too old resource version: {} ({oldest})", self.cursor);
                let status = ApiError::expired(message).to_value();
                self.ready
                    .push_back(watch_line("ERROR", status.to_string().as_bytes()));
                self.ended = true;
            }
            Found::Changes { changes, up_to } => {
                for change in &changes {
                    match self.kind_of(change) {
                        None => {}
                        // The line that the store made is everyone's.
                        Some(kind) if kind == change.kind && matches!(self.view, View::Whole) => {
                            self.ready.push_back(change.line.clone());
                        }
                        Some(kind) => self.tell(kind, &change.object),
                    }
                }
                self.cursor = up_to;
            }
        }
    }

    /// What this watch says of a change: objects enter and leave a selection.
    fn kind_of(&self, change: &Change) -> Option<ChangeKind> {
        let object = &change.object;
        if self
            .namespace
            .as_ref()
            .is_some_and(|namespace| *namespace != object.key.namespace)
        {
            return None;
        }
        if self.selector.is_everything() {
            return Some(change.kind);
        }
        let was = change
            .before
            .as_ref()
            .is_some_and(|before| self.selector.matches(before));
        let is = change.kind != ChangeKind::Deleted && self.selector.matches(&object.attributes);
        match (was, is) {
            (false, false) => None,
            (false, true) => Some(ChangeKind::Added),
            (true, true) => Some(ChangeKind::Modified),
            (true, false) => Some(ChangeKind::Deleted),
        }
    }

    fn bookmark_or_end(&mut self) {
        let now = Instant::now();
        self.ended = now >= self.end;
        if self.ended {
            return;
        }
        if let Some(bookmark) = &mut self.bookmark {
            bookmark.next = now + BOOKMARK_INTERVAL;
            self.tell_bookmark(false);
        }
    }
}
