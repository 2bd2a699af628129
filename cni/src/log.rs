//! Log lines to standard error and, if configured, to a file that is set aside when it grows.
//!
//! Never to standard output: that belongs to the protocol. A plugin lives for milliseconds, so this is one small
//! subscriber in place of a configurable one. Source: Calico's `cni-plugin/internal/pkg/utils/utils.go`.

use std::fmt::{self, Write as _};
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::conf::LogConf;

/// Starts logging as configured. A file that cannot be opened is said on standard error, and the call goes on.
pub(crate) fn start(conf: &LogConf) {
    let level = match conf.level.to_ascii_lowercase().as_str() {
        "debug" => Level::DEBUG,
        "error" => Level::ERROR,
        _ => Level::INFO,
    };
    let file = conf.file.as_deref().and_then(|path| match open(path, conf) {
        Ok(file) => Some(file),
        Err(error) => {
            let line = format!("cannot log to {}: {error}\n", path.display());
            // Nobody is left to tell.
            let _ = std::io::stderr().write_all(line.as_bytes());
            None
        }
    });
    // Fails when the caller has a subscriber already, which is then the right one.
    let _ = tracing::subscriber::set_global_default(Lines { level, file });
}

fn open(path: &Path, conf: &LogConf) -> std::io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    if fs::metadata(path).is_ok_and(|meta| meta.len() >= conf.max_size_bytes) {
        set_aside(path, conf)?;
    }
    OpenOptions::new().append(true).create(true).open(path)
}

fn set_aside(path: &Path, conf: &LogConf) -> std::io::Result<()> {
    let now = jiff::Timestamp::now().to_string().replace(':', "-");
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{now}"));
    fs::rename(path, PathBuf::from(aside))?;
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Ok(());
    };
    let prefix = format!("{name}.");
    let mut old: Vec<PathBuf> = fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with(&prefix))
        })
        .collect();
    // Names end in the time: the newest come first.
    old.sort_by(|a, b| b.cmp(a));
    let keep = usize::try_from(conf.max_count).unwrap_or(usize::MAX);
    let age_max = Duration::from_secs(conf.max_age_days.saturating_mul(86_400));
    for (index, path) in old.iter().enumerate() {
        let age = fs::metadata(path)
            .and_then(|meta| meta.modified())
            .ok()
            .and_then(|time| SystemTime::now().duration_since(time).ok());
        let too_old = conf.max_age_days > 0 && age.is_some_and(|age| age > age_max);
        if too_old || (keep > 0 && index >= keep) {
            // Another plugin may have removed it already.
            let _ = fs::remove_file(path);
        }
    }
    Ok(())
}

struct Lines {
    level: Level,
    file: Option<File>,
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // What libraries say about a failure is in the error that they return.
        metadata.is_event() && *metadata.level() <= self.level && metadata.target().starts_with("caracal")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(format!(
            "{} [{}][{}]",
            jiff::Timestamp::now(),
            event.metadata().level(),
            std::process::id()
        ));
        event.record(&mut line);
        line.0.push('\n');
        // One write a line, so that lines of plugins that run at once do not mix. A full disk must not fail a pod.
        let _ = std::io::stderr().write_all(line.0.as_bytes());
        if let Some(mut file) = self.file.as_ref() {
            let _ = file.write_all(line.0.as_bytes());
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grown_file_is_set_aside_and_old_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cni.log");
        let conf = LogConf {
            max_size_bytes: 10,
            max_age_days: 30,
            max_count: 2,
            ..LogConf::default()
        };
        for _ in 0..5 {
            let mut file = open(&path, &conf).unwrap();
            file.write_all(b"a line that is long enough\n").unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
        let count = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(count, 3, "the file and two set aside");
    }
}
