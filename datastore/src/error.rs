//! What can go wrong with the API server, by what was attempted and by class.
//!
//! Callers decide by class (`is_conflict`, `is_not_found`, ...), never by text. The text is for a person: what was
//! attempted on which object, what the server said, and what to do.

use std::error::Error as StdError;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use kube::core::Status;

/// Result of a request.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What was asked of the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Read one object.
    Get,
    /// Read all objects of a kind.
    List,
    /// Follow the changes of a kind.
    Watch,
    /// Make an object.
    Create,
    /// Replace an object.
    Update,
    /// Replace the status of an object.
    UpdateStatus,
    /// Change fields of an object.
    Patch,
    /// Change fields of an object's status.
    PatchStatus,
    /// Remove an object.
    Delete,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "read",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::UpdateStatus => "update the status of",
            Self::Patch => "patch",
            Self::PatchStatus => "patch the status of",
            Self::Delete => "delete",
        })
    }
}

/// A failed request, or no way to make one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kubeconfig file cannot be used.
    #[error("cannot use the kubeconfig {}: {problem}; name another file or correct it", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Nothing says where the API server is.
    #[error(
        "no API server is known: {problem}; give a kubeconfig file (KUBECONFIG or --kubeconfig), or run in a pod with a \
         service account"
    )]
    NoServer {
        /// What was tried.
        problem: String,
    },
    /// The address of the API server is none.
    #[error("server address {server:?} is not usable: {problem}; write it as https://HOST:PORT")]
    ServerAddress {
        /// The address as given.
        server: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A file of certificates cannot be used.
    #[error("certificates of the API server: {}: {problem}; name a PEM file", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The connection's settings (certificates, credentials) cannot be used.
    #[error("cannot set up the connection to {server}: {problem}; check certificates and credentials")]
    Setup {
        /// The API server.
        server: String,
        /// What is wrong.
        problem: String,
    },
    /// A request failed.
    #[error("cannot {verb} {kind}{}: {cause}{}", on(target), cause.hint(*verb, kind))]
    Request {
        /// What was attempted.
        verb: Verb,
        /// On which kind.
        kind: String,
        /// On which object or namespace; empty for all.
        target: String,
        /// Why it failed.
        cause: Box<Cause>,
    },
}

/// Why a request failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Cause {
    /// The server refused.
    Refused(Box<Status>),
    /// No complete answer came. The request may have had its effect.
    Lost(String),
    /// No answer within the time.
    TimedOut(Duration),
    /// The answer is no object of the kind.
    Undecodable(String),
    /// The request cannot be made from what was given.
    Invalid(String),
}

fn on(target: &str) -> String {
    if target.is_empty() {
        String::new()
    } else {
        format!(" {target}")
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(status) if status.message.is_empty() => write!(f, "refused with {}", status.code),
            Self::Refused(status) => f.write_str(status.message.trim()),
            Self::Lost(problem) => write!(f, "no complete answer from the API server: {problem}"),
            Self::TimedOut(after) => write!(f, "no answer from the API server within {} s", after.as_secs()),
            Self::Undecodable(problem) => write!(f, "the answer cannot be read: {problem}"),
            Self::Invalid(problem) => f.write_str(problem),
        }
    }
}

impl Cause {
    /// What the reader can do about it, as the end of a message.
    fn hint(&self, verb: Verb, kind: &str) -> String {
        match self {
            Self::Refused(status) => match status.code {
                401 => "; the credentials are not accepted: renew the token or the certificate".to_owned(),
                403 => format!("; give this user the right to {verb} {kind}"),
                404 if !names_object(status) => {
                    format!("; the server does not serve {kind}: install its CustomResourceDefinition")
                }
                409 if !status.is_already_exists() => {
                    "; it changed meanwhile: read it again and repeat".to_owned()
                }
                429 => "; the server is busy: repeat later".to_owned(),
                _ => String::new(),
            },
            Self::Lost(_) | Self::TimedOut(_) => {
                "; check that the server is up and reachable from here".to_owned()
            }
            Self::Undecodable(_) => {
                "; the object, or the definition of its kind, is of another version".to_owned()
            }
            Self::Invalid(_) => String::new(),
        }
    }
}

/// True when a "not found" is about an object, not about a kind that the server does not have.
fn names_object(status: &Status) -> bool {
    status
        .details
        .as_ref()
        .is_some_and(|details| !details.name.is_empty())
        || (status.reason == "NotFound" && status.message.contains('"'))
}

impl Error {
    /// The request was right, but the object changed meanwhile or is another one: read it again and repeat.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.status()
            .is_some_and(|status| status.code == 409 && !status.is_already_exists())
    }

    /// The object does not exist (or the kind: [`Self::is_unknown_kind`]).
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(|status| status.code == 404)
    }

    /// The server does not serve the kind.
    #[must_use]
    pub fn is_unknown_kind(&self) -> bool {
        self.status()
            .is_some_and(|status| status.code == 404 && !names_object(status))
    }

    /// An object of this name exists.
    #[must_use]
    pub fn is_already_exists(&self) -> bool {
        self.status().is_some_and(Status::is_already_exists)
    }

    /// The version asked for is no longer known: list again.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.status().is_some_and(|status| status.code == 410)
    }

    /// The server has not come to the version asked for: its data was lost or restored, or this server lags behind.
    pub(crate) fn is_version_ahead(&self) -> bool {
        const TEXT: &str = "Too large resource version";
        self.status().is_some_and(|status| {
            let named = status.details.as_ref().is_some_and(|details| {
                let mut causes = details.causes.iter();
                causes.any(|cause| cause.reason == "ResourceVersionTooLarge")
            });
            status.code == 504 && (named || status.message.contains(TEXT))
        })
    }

    /// The same request may succeed later. It may also have had its effect, unless the answer was 429.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self.cause() {
            Some(Cause::Refused(status)) => matches!(status.code, 408 | 429 | 500 | 502 | 503 | 504),
            Some(Cause::Lost(_) | Cause::TimedOut(_)) => true,
            Some(Cause::Undecodable(_) | Cause::Invalid(_)) | None => false,
        }
    }

    /// The user may not do this.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        self.status()
            .is_some_and(|status| matches!(status.code, 401 | 403))
    }

    /// The server found the object's content wrong.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        self.status()
            .is_some_and(|status| matches!(status.code, 400 | 422))
    }

    /// The server is too busy and did nothing; how long it asks to wait.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let status = self.status().filter(|status| status.code == 429)?;
        let seconds = status
            .details
            .as_ref()
            .map_or(1, |details| details.retry_after_seconds);
        Some(Duration::from_secs(u64::from(seconds.clamp(1, 5))))
    }

    fn cause(&self) -> Option<&Cause> {
        match self {
            Self::Request { cause, .. } => Some(cause),
            Self::Kubeconfig { .. }
            | Self::NoServer { .. }
            | Self::ServerAddress { .. }
            | Self::Certificates { .. }
            | Self::Setup { .. } => None,
        }
    }

    fn status(&self) -> Option<&Status> {
        match self.cause()? {
            Cause::Refused(status) => Some(status),
            Cause::Lost(_) | Cause::TimedOut(_) | Cause::Undecodable(_) | Cause::Invalid(_) => None,
        }
    }
}

impl From<kube::Error> for Cause {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Refused(status),
            kube::Error::SerdeError(error) => Self::Undecodable(error.to_string()),
            kube::Error::FromUtf8(error) => Self::Undecodable(error.to_string()),
            kube::Error::BuildRequest(error) => Self::Invalid(error.to_string()),
            other => Self::Lost(chain(&other)),
        }
    }
}

/// The text of an error and of what caused it, without what repeats.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16, reason: &str, message: &str) -> Error {
        Error::Request {
            verb: Verb::Update,
            kind: "IPPool".to_owned(),
            target: "pool-a".to_owned(),
            cause: Box::new(Cause::Refused(
                Status::failure(message, reason).with_code(code).boxed(),
            )),
        }
    }

    #[test]
    fn classes_follow_code_and_reason() {
        let conflict = refused(409, "Conflict", "the object has been modified");
        assert!(conflict.is_conflict() && !conflict.is_already_exists() && !conflict.is_transient());
        let exists = refused(409, "AlreadyExists", "already exists");
        assert!(exists.is_already_exists() && !exists.is_conflict());
        let object = refused(404, "NotFound", "ippools \"pool-a\" not found");
        assert!(object.is_not_found() && !object.is_unknown_kind());
        let kind = refused(404, "Failed to parse error data", "404 page not found");
        assert!(kind.is_not_found() && kind.is_unknown_kind());
        for code in [429, 500, 503, 504] {
            assert!(refused(code, "", "").is_transient(), "{code}");
        }
        for code in [400, 401, 403, 404, 409, 410, 422] {
            assert!(!refused(code, "", "").is_transient(), "{code}");
        }
        assert!(refused(403, "Forbidden", "").is_forbidden());
        assert!(refused(410, "Expired", "").is_gone());
        let ahead = refused(504, "Timeout", "Too large resource version: 9, current: 5");
        assert!(ahead.is_version_ahead() && !refused(504, "Timeout", "").is_version_ahead());
    }

    #[test]
    fn messages_name_the_attempt_the_object_and_the_remedy() {
        assert_eq!(
            refused(409, "Conflict", "the object has been modified").to_string(),
            "cannot update IPPool pool-a: the object has been modified; it changed meanwhile: read it again and repeat"
        );
        assert_eq!(
            refused(404, "", "404 page not found").to_string(),
            "cannot update IPPool pool-a: 404 page not found; the server does not serve IPPool: install its \
             CustomResourceDefinition"
        );
    }
}
