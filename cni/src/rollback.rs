//! What to undo when a call fails half way: last done, first undone.
//!
//! Undoing goes on after an error of its own and tells all of them: a leak that is said can be cleaned.

use std::future::Future;
use std::pin::Pin;

use crate::error::{Error, Result};

type Undo<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// The stack of what was done.
#[derive(Default)]
pub struct Rollback<'a> {
    done: Vec<(&'static str, Undo<'a>)>,
}

impl std::fmt::Debug for Rollback<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.done.iter().map(|(what, _)| what))
            .finish()
    }
}

impl<'a> Rollback<'a> {
    /// Registers how to undo a step. Do it before the step: a step that fails may have done half of its work.
    pub fn push(&mut self, what: &'static str, undo: impl Future<Output = Result<()>> + Send + 'a) {
        self.done.push((what, Box::pin(undo)));
    }

    /// Takes back the last registration: its step changed nothing.
    pub fn forget_last(&mut self) {
        drop(self.done.pop());
    }

    /// Undoes everything because of an error, and returns that error with what could not be undone.
    pub async fn run(mut self, error: Error) -> Error {
        let mut result = error;
        while let Some((what, undo)) = self.done.pop() {
            if let Err(failure) = undo.await {
                tracing::error!(step = what, error = %failure, "undo failed");
                result = result.hint(format_args!("could not {what}: {failure}; call DEL"));
            }
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::error::Code;

    #[tokio::test]
    async fn steps_are_undone_in_reverse_and_failures_are_told() {
        let order = Mutex::new(Vec::new());
        let mut rollback = Rollback::default();
        for (name, fails) in [("first", false), ("second", true), ("third", false)] {
            let order = &order;
            rollback.push(name, async move {
                order.lock().unwrap().push(name);
                if fails {
                    return Err(Error::new(Code::Io, "no"));
                }
                Ok(())
            });
        }
        let error = rollback.run(Error::new(Code::Plugin, "why")).await;
        assert_eq!(*order.lock().unwrap(), ["third", "second", "first"]);
        assert_eq!(error.message, "why");
        assert!(error.details.contains("could not second: no"), "{error:?}");
    }
}
