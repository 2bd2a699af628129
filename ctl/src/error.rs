//! What a command fails with: lines for the user, the stream that they go to, and the exit code.

/// A failed command. The text is printed as it is; empty text means that everything was said before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    text: String,
    on_stdout: bool,
    code: u8,
}

impl Failure {
    /// A failure with a text for the user and exit code 1.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            on_stdout: false,
            code: 1,
        }
    }

    /// The same failure on stdout, where calicoctl prints some of them.
    #[must_use]
    pub fn on_stdout(mut self) -> Self {
        self.on_stdout = true;
        self
    }

    /// The same failure with another exit code: 3 when the cluster cannot be reached, 4 for partial data.
    #[must_use]
    pub const fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// True when the text belongs to stdout.
    #[must_use]
    pub const fn is_on_stdout(&self) -> bool {
        self.on_stdout
    }

    /// The exit code.
    #[must_use]
    pub const fn code(&self) -> u8 {
        self.code
    }
}

impl From<caracal_datastore::Error> for Failure {
    fn from(error: caracal_datastore::Error) -> Self {
        Self::new(error.to_string())
    }
}

impl From<caracal_ipam::Error> for Failure {
    fn from(error: caracal_ipam::Error) -> Self {
        Self::new(format!("error: {error}"))
    }
}
