//! Lists in pages: the rest of a list is kept as it was, so that all pages together are one moment.
//!
//! Bounded in number and in time; a page that came too late is answered 410, and the reader starts again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::status::ApiError;
use crate::store::Object;

const KEPT: usize = 32;
const KEPT_FOR: Duration = Duration::from_secs(300);

/// The chosen objects of a list at one revision.
pub(crate) struct Chosen {
    pub(crate) revision: u64,
    pub(crate) objects: Vec<Arc<Object>>,
    /// The request that chose them: a token is good for the same request only.
    pub(crate) request: String,
}

#[derive(Default)]
pub(crate) struct Pages {
    kept: Mutex<VecDeque<(String, Instant, Arc<Chosen>)>>,
}

impl Pages {
    /// A token for what comes from `start` on. `token` is the one that led here, whose list is kept already.
    pub(crate) fn keep(&self, chosen: &Arc<Chosen>, start: usize, token: &str) -> String {
        let now = Instant::now();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        while kept.len() >= KEPT || kept.front().is_some_and(|(_, since, _)| now - *since > KEPT_FOR) {
            kept.pop_front();
        }
        let id = match decode(token) {
            Some((id, _)) if kept.iter().any(|(other, _, _)| *other == id) => id,
            _ => {
                let id = uuid::Uuid::new_v4().simple().to_string();
                kept.push_back((id.clone(), now, Arc::clone(chosen)));
                id
            }
        };
        URL_SAFE_NO_PAD.encode(format!("{id}:{start}"))
    }

    /// The list that a token is about and where to go on in it.
    pub(crate) fn find(&self, token: &str, request: &str) -> Result<(Arc<Chosen>, usize), ApiError> {
        let Some((id, start)) = decode(token) else {
            return Err(ApiError::bad_request(format!(
                "invalid continue token: continue key is not valid: {token:?}; use the one of the list before, or none"
            )));
        };
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept
            .iter()
            .find(|(other, since, _)| *other == id && since.elapsed() <= KEPT_FOR);
        match found {
            Some((_, _, chosen)) if chosen.request == request => Ok((Arc::clone(chosen), start)),
            Some(_) => Err(ApiError::bad_request(
                "continue key is not valid: it is from another request; use the one of the list before",
            )),
            None => Err(ApiError::expired(
                "The provided continue parameter is too old to display a consistent list result. Start a new list without the continue parameter.",
            )),
        }
    }
}

fn decode(token: &str) -> Option<(String, usize)> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    let (id, start) = text.split_once(':')?;
    Some((id.to_owned(), start.parse().ok()?))
}
