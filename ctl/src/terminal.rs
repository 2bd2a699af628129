//! Where a command's results and messages go, and where its input comes from.
//!
//! Results go to stdout, messages to stderr; a test reads both from memory.

use std::cell::RefCell;
use std::io::{Read as _, Write as _};

use serde_json::{Map, Value};

/// Longest text that is read from stdin, in bytes.
const INPUT_LEN_MAX: u64 = 256 * 1024 * 1024;

/// The three streams of a command.
#[derive(Debug)]
pub struct Terminal {
    out: RefCell<Sink>,
    err: RefCell<Sink>,
    input: Option<String>,
}

#[derive(Debug)]
enum Sink {
    Stdout,
    Stderr,
    Memory(String),
}

impl Sink {
    fn write(&mut self, text: &str) {
        // A reader that went away ends the output, not the program.
        match self {
            Self::Stdout => drop(std::io::stdout().write_all(text.as_bytes())),
            Self::Stderr => drop(std::io::stderr().write_all(text.as_bytes())),
            Self::Memory(memory) => memory.push_str(text),
        }
    }

    fn taken(self) -> String {
        match self {
            Self::Memory(memory) => memory,
            Self::Stdout | Self::Stderr => String::new(),
        }
    }
}

impl Terminal {
    /// The streams of the process.
    #[must_use]
    pub const fn of_process() -> Self {
        Self {
            out: RefCell::new(Sink::Stdout),
            err: RefCell::new(Sink::Stderr),
            input: None,
        }
    }

    /// Streams in memory, with a text on stdin.
    #[must_use]
    pub fn in_memory(input: &str) -> Self {
        Self {
            out: RefCell::new(Sink::Memory(String::new())),
            err: RefCell::new(Sink::Memory(String::new())),
            input: Some(input.to_owned()),
        }
    }

    /// What was written to stdout and to stderr, of streams in memory.
    #[must_use]
    pub fn into_texts(self) -> (String, String) {
        (self.out.into_inner().taken(), self.err.into_inner().taken())
    }

    /// Prints text as it is.
    pub(crate) fn text(&self, text: &str) {
        self.out.borrow_mut().write(text);
    }

    /// Prints a line.
    pub(crate) fn line(&self, line: &str) {
        self.text(&format!("{line}\n"));
    }

    /// Prints a message for the user, which is no result.
    pub(crate) fn message(&self, line: &str) {
        self.err.borrow_mut().write(&format!("{line}\n"));
    }

    /// All of stdin.
    pub(crate) fn input(&self) -> std::io::Result<String> {
        if let Some(text) = &self.input {
            return Ok(text.clone());
        }
        let mut text = String::new();
        std::io::stdin().take(INPUT_LEN_MAX).read_to_string(&mut text)?;
        Ok(text)
    }
}

/// A value with all keys in alphabetical order, at every depth.
pub(crate) fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(String, Value)> =
                map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => other,
    }
}
