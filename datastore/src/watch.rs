//! Following the objects of a kind: a list, then its changes, for ever.
//!
//! The stream survives dropped connections (it goes on where it was), versions that became too old (410: it lists
//! again), restarts and absence of the API server (it waits longer each time, with jitter). A list that is made again
//! is compared with what was told before: unchanged objects are not told twice, and vanished ones are told as deleted.
//! Of each object only its key and a hash of its version are remembered.

mod backoff;
mod known;
mod lines;

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::{Duration, Instant};

use futures::{AsyncBufRead, Stream};
use http::header::{ACCEPT_ENCODING, HeaderValue};
use kube::api::{WatchEvent, WatchParams};
use serde_json::Value;

use crate::client::{Call, Client, Page};
use crate::error::{Cause, Error, Result, Verb};
use crate::object::{Key, ListOptions, Object};
use backoff::Backoff;
use known::Known;

/// How long the server keeps one watch open.
pub(crate) const WATCH_TIMEOUT: Duration = Duration::from_secs(290);
/// A watch that is silent for this much longer than it should last is taken for dead.
const WATCH_SLACK: Duration = Duration::from_secs(5);
/// The server must begin its answer to a watch within this time.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// A watch that ended sooner than this without an event counts as a failure.
const SHORTEST_WATCH: Duration = Duration::from_secs(1);

/// Which objects a watch follows; by default all of the kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchScope {
    /// One namespace only.
    pub namespace: Option<String>,
    /// Label selector in Kubernetes' text form.
    pub labels: Option<String>,
    /// Field selector; servers know few fields of each kind.
    pub fields: Option<String>,
}

/// What a watch tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Event<K> {
    /// The object exists with this content.
    Applied(K),
    /// The object is gone, or no longer in the scope.
    Deleted(Key),
    /// The first list is complete. Told once.
    InSync,
    /// Something failed; the watch repeats it by itself. What was told before may be out of date meanwhile.
    Trouble(String),
}

impl Client {
    /// Follows the objects of a scope. The stream never ends; dropping it ends the watch.
    pub fn watch<K: Object>(
        &self,
        scope: WatchScope,
    ) -> impl Stream<Item = Event<K>> + Send + 'static + use<K> {
        follow(Watcher::<K>::new(self.clone(), scope))
    }

    /// Follows the objects of a scope of a kind that the server need not have. While it does not know the kind there are
    /// no objects: [`Event::InSync`] is told, and the kind is asked for again from time to time.
    pub fn watch_optional<K: Object>(
        &self,
        scope: WatchScope,
    ) -> impl Stream<Item = Event<K>> + Send + 'static + use<K> {
        let mut watcher = Watcher::<K>::new(self.clone(), scope);
        watcher.is_optional = true;
        follow(watcher)
    }
}

fn follow<K: Object>(watcher: Watcher<K>) -> impl Stream<Item = Event<K>> + Send + 'static + use<K> {
    futures::stream::unfold(watcher, |mut watcher| async move {
        let event = watcher.next().await;
        Some((event, watcher))
    })
}

type Body = Pin<Box<dyn AsyncBufRead + Send>>;

/// How far a watch has come.
enum State {
    /// The next thing is a list, at this page.
    Listing { continue_token: Option<String> },
    /// Everything up to a version is told; no connection is open.
    Idle { version: String },
    /// Changes come in.
    Open {
        version: String,
        lines: lines::Lines<Body>,
        since: Instant,
        got_event: bool,
    },
}

struct Watcher<K> {
    client: Client,
    scope: WatchScope,
    state: State,
    known: Known,
    in_sync: bool,
    /// The server need not know the kind.
    is_optional: bool,
    pending: VecDeque<Event<K>>,
    backoff: Backoff,
    /// A failure came last: wait before the next request.
    pause: bool,
}

impl<K: Object> Watcher<K> {
    fn new(client: Client, scope: WatchScope) -> Self {
        Self {
            client,
            scope,
            state: State::Listing { continue_token: None },
            known: Known::default(),
            in_sync: false,
            is_optional: false,
            pending: VecDeque::new(),
            backoff: Backoff::new(),
            pause: false,
        }
    }

    async fn next(&mut self) -> Event<K> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return event;
            }
            if std::mem::take(&mut self.pause) {
                tokio::time::sleep(self.backoff.next()).await;
            }
            if let Err(error) = self.step().await {
                self.recover(&error);
            }
        }
    }

    /// Does one request, or reads one change.
    async fn step(&mut self) -> Result<()> {
        match &mut self.state {
            State::Listing { continue_token } => {
                let token = continue_token.take();
                self.list_page(token).await
            }
            State::Idle { version } => {
                let version = version.clone();
                self.open(version).await
            }
            State::Open { .. } => self.read_line().await,
        }
    }

    /// Decides where to go on after a failure.
    fn recover(&mut self, error: &Error) {
        self.pause = true;
        let version = match &self.state {
            State::Idle { version } | State::Open { version, .. } => Some(version.clone()),
            State::Listing { .. } => None,
        };
        self.state = match version {
            // The connection or the server failed: nothing says that the version is no longer good.
            Some(version) if error.is_transient() && !error.is_version_ahead() => State::Idle { version },
            _ => State::Listing { continue_token: None },
        };
        // That a version became too old is everyday life; a list follows.
        if error.is_gone() {
            tracing::debug!(error = %error, "version is too old, listing again");
        } else if self.is_optional && error.is_unknown_kind() {
            tracing::debug!(error = %error, "the server does not know the kind");
            if !std::mem::replace(&mut self.in_sync, true) {
                self.pending.push_back(Event::InSync);
            }
        } else {
            self.pending.push_back(Event::Trouble(error.to_string()));
        }
    }

    fn call(&self, verb: Verb) -> Call {
        Call::new::<K>(verb, self.scope.namespace.as_deref(), "")
    }

    async fn list_page(&mut self, continue_token: Option<String>) -> Result<()> {
        let call = self.call(Verb::List);
        let options = ListOptions {
            labels: self.scope.labels.clone(),
            fields: self.scope.fields.clone(),
        };
        if continue_token.is_none() {
            self.known.begin_list();
        }
        let text = self
            .client
            .list_page::<K>(&call, &options, continue_token)
            .await?;
        let page = self.decode_page(&call, &text)?;
        for object in page.items {
            self.applied(object);
        }
        if !page.metadata.continue_token.is_empty() {
            self.state = State::Listing {
                continue_token: Some(page.metadata.continue_token),
            };
            return Ok(());
        }
        let gone = self.known.end_list();
        self.pending.extend(gone.into_iter().map(Event::Deleted));
        if !std::mem::replace(&mut self.in_sync, true) {
            self.pending.push_back(Event::InSync);
        }
        self.state = State::Idle {
            version: page.metadata.resource_version,
        };
        self.backoff.reset();
        Ok(())
    }

    /// Reads a page. One object that cannot be read does not hide the others: it is reported and left as it was.
    fn decode_page(&mut self, call: &Call, text: &str) -> Result<Page<K>> {
        if let Ok(page) = serde_json::from_str(text) {
            return Ok(page);
        }
        let page: Page<Value> = call.decode(text)?;
        let mut items = Vec::new();
        for value in page.items {
            let key = key_of(&value);
            match serde_json::from_value::<K>(value) {
                Ok(object) => items.push(object),
                Err(error) => {
                    self.known.still_there(&key);
                    self.unreadable(&key, &error);
                }
            }
        }
        Ok(Page {
            metadata: page.metadata,
            items,
        })
    }

    fn unreadable(&mut self, key: &Key, error: &serde_json::Error) {
        self.pending.push_back(Event::Trouble(format!(
            "cannot read {} {key}: {error}; it is ignored until it is corrected",
            K::kind(&())
        )));
    }

    async fn open(&mut self, version: String) -> Result<()> {
        let call = self.call(Verb::Watch);
        let params = WatchParams {
            label_selector: self.scope.labels.clone(),
            field_selector: self.scope.fields.clone(),
            timeout: Some(u32::try_from(WATCH_TIMEOUT.as_secs()).unwrap_or(u32::MAX)),
            ..WatchParams::default()
        };
        let mut request = call
            .path::<K>()
            .watch(&params, &version)
            .map_err(|error| call.fail(Cause::Invalid(error.to_string())))?;
        // Servers compress watches event by event, which readers of one compressed stream cannot follow.
        request
            .headers_mut()
            .insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let kube = self.client.kube().clone();
        let opening = async move { kube.request_stream(request).await };
        let body = match tokio::time::timeout(OPEN_TIMEOUT, opening).await {
            Ok(Ok(body)) => body,
            Ok(Err(error)) => return Err(call.fail(error.into())),
            Err(_) => return Err(call.fail(Cause::TimedOut(OPEN_TIMEOUT))),
        };
        self.state = State::Open {
            version,
            lines: lines::Lines::new(Box::pin(body)),
            since: Instant::now(),
            got_event: false,
        };
        Ok(())
    }

    async fn read_line(&mut self) -> Result<()> {
        let call = self.call(Verb::Watch);
        let State::Open {
            version,
            lines,
            since,
            got_event,
        } = &mut self.state
        else {
            return Ok(());
        };
        let patience = WATCH_TIMEOUT + WATCH_SLACK;
        let line = match tokio::time::timeout(patience, lines.next()).await {
            Ok(Ok(line)) => line,
            Ok(Err(error)) => return Err(call.fail(Cause::Lost(error.to_string()))),
            Err(_) => return Err(call.fail(Cause::TimedOut(patience))),
        };
        let Some(line) = line else {
            // The end of a watch is normal, unless the server ends it at once.
            self.pause = !*got_event && since.elapsed() < SHORTEST_WATCH;
            self.state = State::Idle {
                version: std::mem::take(version),
            };
            return Ok(());
        };
        *got_event = true;
        self.on_line(&call, &line)
    }

    fn on_line(&mut self, call: &Call, line: &str) -> Result<()> {
        let event = match serde_json::from_str::<WatchEvent<K>>(line) {
            Ok(event) => event,
            Err(error) => return self.on_unreadable_line(call, line, &error),
        };
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                self.advance(object.meta().resource_version.as_deref());
                self.applied(object);
            }
            WatchEvent::Deleted(object) => {
                self.advance(object.meta().resource_version.as_deref());
                let key = Key::of(&object);
                if self.known.remove(&key) {
                    self.pending.push_back(Event::Deleted(key));
                }
            }
            WatchEvent::Bookmark(bookmark) => self.advance(Some(&bookmark.metadata.resource_version)),
            WatchEvent::Error(status) => return Err(call.fail(Cause::Refused(status))),
        }
        self.backoff.reset();
        Ok(())
    }

    /// A change of an object that cannot be read as the kind, or something that is no change at all.
    fn on_unreadable_line(&mut self, call: &Call, line: &str, error: &serde_json::Error) -> Result<()> {
        let value: Value = match serde_json::from_str(line) {
            Ok(value) => value,
            // The connection broke within a line.
            Err(error) => return Err(call.fail(Cause::Lost(error.to_string()))),
        };
        if value["kind"] == "Status" {
            let status = serde_json::from_value(value)
                .map_err(|error| call.fail(Cause::Undecodable(error.to_string())))?;
            return Err(call.fail(Cause::Refused(status)));
        }
        let object = &value["object"];
        let version = object["metadata"]["resourceVersion"].as_str();
        let key = key_of(object);
        if version.is_none() || key.name.is_empty() {
            return Err(call.fail(Cause::Undecodable(error.to_string())));
        }
        self.advance(version);
        if value["type"] == "DELETED" {
            if self.known.remove(&key) {
                self.pending.push_back(Event::Deleted(key));
            }
        } else {
            self.unreadable(&key, error);
        }
        Ok(())
    }

    fn advance(&mut self, to: Option<&str>) {
        if let (State::Open { version, .. }, Some(to)) = (&mut self.state, to)
            && !to.is_empty()
        {
            to.clone_into(version);
        }
    }

    fn applied(&mut self, object: K) {
        let meta = object.meta();
        let news = self.known.insert(
            Key::of(&object),
            meta.uid.as_deref(),
            meta.resource_version.as_deref(),
        );
        if news {
            self.pending.push_back(Event::Applied(object));
        }
    }
}

fn key_of(object: &Value) -> Key {
    let text = |field: &str| object["metadata"][field].as_str().map(ToOwned::to_owned);
    Key {
        namespace: text("namespace").filter(|namespace| !namespace.is_empty()),
        name: text("name").unwrap_or_default(),
    }
}
