//! What a command fails with: lines for stderr and the exit code.

/// A failed command. The text is printed as it is; empty text means that everything was said before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    text: String,
}

impl Failure {
    /// A failure with a text for the user.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }
}

impl From<caracal_datastore::Error> for Failure {
    fn from(error: caracal_datastore::Error) -> Self {
        Self::new(error.to_string())
    }
}
