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
use serde_json::json;
use tokio::time::Instant;

use super::read::check_fields;
use crate::request::Query;
use crate::resource::Resource;
use crate::selector::Selector;
use crate::server::ApiServer;
use crate::service::ResponseBody;
use crate::status::ApiError;
use crate::store::{Change, ChangeKind, Found, Store, watch_line};

const BATCH: usize = 256;
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(30);
const DEFAULT_TIMEOUT_SECONDS: u64 = 1800;

struct Watch {
    store: Arc<Store>,
    collection: Arc<str>,
    namespace: Option<String>,
    selector: Selector,
    cursor: u64,
    ready: VecDeque<Bytes>,
    signal: tokio::sync::watch::Receiver<u64>,
    bookmark: Option<Bookmark>,
    end: Instant,
    ended: bool,
}

struct Bookmark {
    kind: String,
    version: String,
    next: Instant,
}

impl Bookmark {
    fn line(&self, revision: u64, initial: bool) -> Bytes {
        let mut object = json!({"kind": self.kind, "apiVersion": self.version,
            "metadata": {"resourceVersion": revision.to_string(), "creationTimestamp": null}});
        if initial {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        watch_line("BOOKMARK", object.to_string().as_bytes())
    }
}

impl ApiServer {
    pub(crate) fn watch(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        query: &Query,
        fields: &str,
    ) -> Result<Response<ResponseBody>, ApiError> {
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
            cursor: query.number("resourceVersion")?.unwrap_or(0),
            ready: VecDeque::new(),
            signal: self.store().subscribe(&resource.storage),
            bookmark,
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
        let chosen = listing
            .objects
            .iter()
            .filter(|object| self.selector.matches(&object.attributes));
        self.ready
            .extend(chosen.map(|object| watch_line("ADDED", &object.json)));
        if let (true, Some(bookmark)) = (initial, &self.bookmark) {
            self.ready.push_back(bookmark.line(listing.revision, true));
        }
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.ready.pop_front() {
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
                let lines = changes.iter().filter_map(|change| self.line(change));
                let lines: Vec<Bytes> = lines.collect();
                self.ready.extend(lines);
                self.cursor = up_to;
            }
        }
    }

    /// What this watch says of a change: objects enter and leave a selection.
    fn line(&self, change: &Change) -> Option<Bytes> {
        let object = &change.object;
        if self
            .namespace
            .as_ref()
            .is_some_and(|namespace| *namespace != object.key.namespace)
        {
            return None;
        }
        if self.selector.is_everything() {
            return Some(change.line.clone());
        }
        let was = change
            .before
            .as_ref()
            .is_some_and(|before| self.selector.matches(before));
        let is = change.kind != ChangeKind::Deleted && self.selector.matches(&object.attributes);
        let kind = match (was, is) {
            (false, false) => return None,
            (false, true) => ChangeKind::Added,
            (true, true) => ChangeKind::Modified,
            (true, false) => ChangeKind::Deleted,
        };
        if kind == change.kind {
            Some(change.line.clone())
        } else {
            Some(watch_line(kind.name(), &object.json))
        }
    }

    fn bookmark_or_end(&mut self) {
        let now = Instant::now();
        self.ended = now >= self.end;
        if let Some(bookmark) = &mut self.bookmark {
            bookmark.next = now + BOOKMARK_INTERVAL;
            self.ready.push_back(bookmark.line(self.cursor, false));
        }
    }
}
