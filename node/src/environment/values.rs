//! Single values of the environment, and the notes about those that cannot be used.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use caracal_api::v3::GoDuration;

use super::{Problem, Problems};

/// Reads variables and remembers what was wrong with them. An empty variable counts as unset.
pub(super) struct Reader<'a> {
    variables: &'a BTreeMap<String, String>,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(variables: &'a BTreeMap<String, String>) -> Self {
        Self {
            variables,
            problems: Vec::new(),
        }
    }

    pub(super) fn text(&self, variable: &str) -> Option<&'a str> {
        self.variables
            .get(variable)
            .map(|value| value.trim())
            .filter(|value| !value.is_empty())
    }

    pub(super) fn refuse(&mut self, variable: &'static str, value: &str, remedy: &str) {
        self.problems.push(Problem {
            variable,
            value: value.to_owned(),
            remedy: remedy.to_owned(),
        });
    }

    pub(super) fn parsed<T: FromStr>(&mut self, variable: &'static str, remedy: &str) -> Option<T> {
        let text = self.text(variable)?;
        let value = text.parse().ok();
        if value.is_none() {
            self.refuse(variable, text, remedy);
        }
        value
    }

    /// False for what Calico takes as false, true for anything else.
    pub(super) fn switch(&self, variable: &str, default: bool) -> bool {
        self.text(variable).map_or(default, |text| {
            !matches!(
                text.to_ascii_lowercase().as_str(),
                "false" | "0" | "no" | "n" | "f"
            )
        })
    }

    /// A time as `90s`, `1m30s` or `500ms`.
    pub(super) fn duration(&mut self, variable: &'static str) -> Option<Duration> {
        let text = self.text(variable)?;
        let value = match text.parse() {
            Ok(GoDuration::Nanoseconds(nanoseconds)) => u64::try_from(nanoseconds).ok(),
            Ok(GoDuration::Invalid(_)) | Err(_) => None,
        };
        let value = value.filter(|value| *value > 0).map(Duration::from_nanos);
        if value.is_none() {
            self.refuse(variable, text, "is no time; use one as 60s, 1m30s or 500ms");
        }
        value
    }

    /// The value, if nothing was wrong.
    pub(super) fn finish<T>(self, value: T) -> Result<T, Problems> {
        if self.problems.is_empty() {
            Ok(value)
        } else {
            Err(Problems(self.problems))
        }
    }
}
