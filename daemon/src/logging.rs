//! Log output: to stderr, as text or JSON lines, filtered by `CARACAL_LOG` (else `RUST_LOG`, else `info`).

use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Format {
    /// One line of text per event.
    #[default]
    Text,
    /// One JSON object per event.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name of a format is unknown.
    #[error("log format {0:?} is not known; use text or json")]
    Format(String),
    /// The filter cannot be read.
    #[error("{variable}={value:?} is not a log filter; use a level (info) or target=level pairs")]
    Filter {
        /// The environment variable.
        variable: &'static str,
        /// Its value.
        value: String,
    },
    /// Logging was set up before.
    #[error("logging is set up already")]
    Twice,
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.to_ascii_lowercase().as_str() {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(Error::Format(text.to_owned())),
        }
    }
}

/// Sets up logging for the process and logs the component's start with its version.
///
/// # Errors
/// When the filter cannot be read, or logging was set up before.
pub fn init(component: &'static str, format: Format) -> Result<(), Error> {
    init_with(component, format, None)
}

/// As [`init`], with a filter that applies when no environment variable is set (a configured severity).
///
/// # Errors
/// When the filter cannot be read, or logging was set up before.
pub fn init_with(component: &'static str, format: Format, default_filter: Option<&str>) -> Result<(), Error> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(default_filter)?)
        .with_writer(std::io::stderr)
        .with_span_events(FmtSpan::NONE)
        .with_target(false);
    let set = match format {
        Format::Text => builder.with_ansi(false).try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    set.map_err(|_| Error::Twice)?;
    tracing::info!(component, version = env!("CARGO_PKG_VERSION"), "started");
    Ok(())
}

/// The level of a running process. Set in the environment, it stays as it is.
pub struct Level {
    set: Option<Box<dyn Fn(EnvFilter) -> bool + Send + Sync>>,
}

impl std::fmt::Debug for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Level").finish_non_exhaustive()
    }
}

impl Level {
    /// Changes the level (`debug`, or a filter), unless the environment has fixed it.
    ///
    /// # Errors
    /// When the filter cannot be read.
    pub fn set(&self, value: &str) -> Result<(), Error> {
        let filter = EnvFilter::try_new(value).map_err(|_| Error::Filter {
            variable: "log level",
            value: value.to_owned(),
        })?;
        if let Some(set) = &self.set {
            set(filter);
        }
        Ok(())
    }
}

/// As [`init`], with a level that can be changed later, as the component's configuration does.
///
/// # Errors
/// When the filter cannot be read, or logging was set up before.
pub fn init_adjustable(component: &'static str, format: Format) -> Result<Level, Error> {
    let is_fixed = ["CARACAL_LOG", "RUST_LOG"]
        .iter()
        .any(|variable| std::env::var(variable).is_ok_and(|value| !value.is_empty()));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(None)?)
        .with_writer(std::io::stderr)
        .with_span_events(FmtSpan::NONE)
        .with_target(false);
    let set: Box<dyn Fn(EnvFilter) -> bool + Send + Sync> = match format {
        Format::Text => {
            let builder = builder.with_ansi(false).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.try_init().map_err(|_| Error::Twice)?;
            Box::new(move |filter| handle.reload(filter).is_ok())
        }
        Format::Json => {
            let builder = builder.json().flatten_event(true).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.try_init().map_err(|_| Error::Twice)?;
            Box::new(move |filter| handle.reload(filter).is_ok())
        }
    };
    tracing::info!(component, version = env!("CARGO_PKG_VERSION"), "started");
    Ok(Level {
        set: (!is_fixed).then_some(set),
    })
}

fn filter(default_filter: Option<&str>) -> Result<EnvFilter, Error> {
    for variable in ["CARACAL_LOG", "RUST_LOG"] {
        if let Ok(value) = std::env::var(variable)
            && !value.is_empty()
        {
            return EnvFilter::try_new(&value).map_err(|_| Error::Filter { variable, value });
        }
    }
    let value = default_filter.unwrap_or("info");
    EnvFilter::try_new(value).map_err(|_| Error::Filter {
        variable: "log level",
        value: value.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_named() {
        assert_eq!("json".parse::<Format>().unwrap(), Format::Json);
        assert_eq!("Text".parse::<Format>().unwrap(), Format::Text);
        assert_eq!(
            "xml".parse::<Format>().unwrap_err().to_string(),
            "log format \"xml\" is not known; use text or json"
        );
    }
}
