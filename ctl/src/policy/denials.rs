//! `policy denials`: what felix of this node tells of denied packets.

use std::io::{BufRead, BufReader, Cursor, ErrorKind};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::args::PolicyDenials;
use crate::error::Failure;
use crate::store::text_at;
use crate::terminal::Terminal;
use crate::version::duration;

/// What is kept comes at once; a longer silence is the end of it.
const SILENCE: Duration = Duration::from_millis(300);

/// Carries out `policy denials`.
pub(crate) fn run(terminal: &Terminal, arguments: &PolicyDenials) -> Result<(), Failure> {
    if !matches!(arguments.output.as_str(), "text" | "json") {
        let text = format!(
            "unrecognized output format '{}'; use text or json",
            arguments.output
        );
        return Err(Failure::new(text).with_code(2));
    }
    let since = arguments.since.as_deref().map(duration).transpose();
    let since = since.map_err(|failure| failure.with_code(2))?;
    let since = since.and_then(|since| {
        Timestamp::now()
            .checked_sub(SignedDuration::try_from(since).ok()?)
            .ok()
    });
    let mut wanted = Wanted {
        since,
        namespace: arguments.namespace.as_deref(),
    };
    let mut shown = 0_usize;
    for line in reader(terminal, arguments)?.lines() {
        let line = match line {
            Ok(line) => line,
            // Of a socket that is silent, without --follow.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) => return Err(Failure::new(format!("denied packets cannot be read: {error}"))),
        };
        let Ok(record) = serde_json::from_str::<Value>(&line) else {
            terminal.message(&format!("no JSON, left out: {line}"));
            continue;
        };
        if !wanted.has(&record) {
            continue;
        }
        shown += 1;
        if arguments.output == "json" {
            terminal.line(&line);
        } else {
            terminal.line(&text(&record));
        }
    }
    if shown == 0 {
        terminal.message("no denied packets; felix tells of them when flowLogsLocalReporter of its FelixConfiguration is Enabled");
    }
    Ok(())
}

fn reader(terminal: &Terminal, arguments: &PolicyDenials) -> Result<Box<dyn BufRead>, Failure> {
    match arguments.filename.as_deref() {
        Some("-") => {
            let text = terminal
                .input()
                .map_err(|error| Failure::new(format!("reading stdin: {error}")))?;
            Ok(Box::new(Cursor::new(text)))
        }
        Some(path) => {
            let file = std::fs::File::open(path);
            let file = file.map_err(|error| Failure::new(format!("{path}: {error}")).with_code(2))?;
            Ok(Box::new(BufReader::new(file)))
        }
        None => {
            let failed = |error: std::io::Error| {
                let text = format!(
                    "felix does not answer at {}: {error}; run this on a node, as root, or name its socket with --socket",
                    arguments.socket.display()
                );
                Failure::new(text).with_code(3)
            };
            let stream = UnixStream::connect(&arguments.socket).map_err(failed)?;
            let timeout = (!arguments.follow).then_some(SILENCE);
            stream.set_read_timeout(timeout).map_err(failed)?;
            Ok(Box::new(BufReader::new(stream)))
        }
    }
}

/// Which records are shown.
struct Wanted<'a> {
    since: Option<Timestamp>,
    namespace: Option<&'a str>,
}

impl Wanted<'_> {
    fn has(&mut self, record: &Value) -> bool {
        let time: Option<Timestamp> = text_at(record, "/time").parse().ok();
        let is_new = self
            .since
            .is_none_or(|since| time.is_none_or(|time| time >= since));
        let is_of = |namespace: &str| {
            let ends = ["/source/endpoint", "/destination/endpoint"].map(|path| text_at(record, path));
            ends.iter()
                .any(|end| end.split_once('/').is_some_and(|(own, _)| own == namespace))
        };
        is_new && self.namespace.is_none_or(is_of)
    }
}

fn text(record: &Value) -> String {
    let end = |side: &str| {
        let at = |field: &str| record.pointer(&format!("/{side}/{field}"));
        let name = at("endpoint").and_then(Value::as_str);
        let address = at("address").and_then(Value::as_str).unwrap_or("?");
        let port = at("port")
            .and_then(Value::as_u64)
            .map(|port| format!(":{port}"))
            .unwrap_or_default();
        name.map_or_else(
            || format!("{address}{port}"),
            |name| format!("{name} {address}{port}"),
        )
    };
    let time = text_at(record, "/time");
    let reason = text_at(record, "/reason");
    if let Some(lost) = record.get("lost").and_then(Value::as_u64) {
        return format!("{time} {lost} lost: {reason}").trim().to_owned();
    }
    let names = record.get("policies").and_then(Value::as_array);
    let names: Vec<&str> = names.into_iter().flatten().filter_map(Value::as_str).collect();
    let names = if names.is_empty() {
        String::new()
    } else {
        format!(" ({})", names.join(", "))
    };
    let number = record.get("protocol").and_then(Value::as_u64).unwrap_or_default();
    let known = caracal_api::v3::Protocol::NAMES
        .iter()
        .find(|(_, own)| u64::from(*own) == number);
    let protocol = known.map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned());
    let count = record.get("count").and_then(Value::as_u64).unwrap_or(1);
    format!(
        "{time} {} {protocol} {} -> {} {count}x: {reason}{names}",
        text_at(record, "/direction"),
        end("source"),
        end("destination")
    )
}
