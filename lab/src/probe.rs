//! Probes: does what one place sends to another arrive, vanish, or come back refused?
//!
//! Owns the question and the answer. It reads the lab's files and works in its namespaces; the API is asked for the
//! pools only, when the outside host is to have a further address. Where nothing listens on a target of the lab that
//! would otherwise say nothing about the way there, a server is started for the time of the probe: for UDP on any
//! target, for TCP on the outside host. A closed TCP port of a pod or node answers by itself: refused.

mod attempt;
mod names;
mod places;

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use futures::StreamExt as _;
use serde_json::{Map, Value, json};

pub use attempt::Verdict;

use crate::error::{Error, Result};
use crate::pod_server::Transport;
use crate::state::Layout;
use crate::topology::Plan;
use names::{Request, Side};
use places::{Places, Target};

/// Exit status of a probe that could not be made.
const NOT_MADE: u8 = 3;

/// What the user asked to be probed.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// Source: NAMESPACE/POD, node:NAME, outside, outside:ADDRESS, or an address of one of these
    #[arg(required_unless_present = "batch", conflicts_with = "batch")]
    pub from: Option<String>,
    /// Target: NAMESPACE/POD, node:NAME, outside, outside:ADDRESS, or an address
    #[arg(required_unless_present = "batch", conflicts_with = "batch")]
    pub to: Option<String>,
    /// Port of the target
    // Text, so that a wrong one is a probe that could not be made and not a usage error, whose status means refused.
    #[arg(required_unless_present = "batch", conflicts_with = "batch")]
    pub port: Option<String>,
    /// UDP instead of TCP
    #[arg(long, conflicts_with = "batch")]
    pub udp: bool,
    /// A file of probes, one JSON object (from, to, protocol, port) a line; - for standard input
    #[arg(long, value_name = "FILE")]
    pub batch: Option<PathBuf>,
    /// Print JSON; follows the global option
    #[arg(skip)]
    pub json: bool,
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What became of it.
    pub verdict: Verdict,
    /// The name that answered.
    pub server: Option<String>,
}

/// Probes and prints. 0 is allowed (of a batch: all were made), 1 dropped, 2 refused, 3 could not be made, which
/// standard error explains.
///
/// # Errors
/// The outcome cannot be written.
pub async fn run(layout: &Layout, plan: &Plan, args: &Args) -> Result<ExitCode> {
    let done = match &args.batch {
        Some(file) => match read(file) {
            Ok(text) => batch(layout, plan, &text, &mut |line| print_line(&line.to_string())).await,
            Err(error) => Err(Failure::NotMade(error)),
        },
        None => one(layout, plan, args).await,
    };
    match done {
        Ok(code) => Ok(ExitCode::from(code)),
        Err(Failure::NotMade(error)) => {
            say(&format!("probe: {error}"));
            Ok(ExitCode::from(NOT_MADE))
        }
        Err(Failure::Output(error)) => Err(error),
    }
}

enum Failure {
    /// A probe could not be made.
    NotMade(Error),
    /// What it found could not be written.
    Output(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::NotMade(error)
    }
}

async fn one(layout: &Layout, plan: &Plan, args: &Args) -> Result<u8, Failure> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let request = Request::new(
        &text(&args.from),
        &text(&args.to),
        if args.udp { Transport::Udp } else { Transport::Tcp },
        &text(&args.port),
    )
    .map_err(Error::refused)?;
    let mut places = Places::new(layout, plan)?;
    places.prepare(&[&request.from, &request.to]).await?;
    let outcome = probe(&mut places, &request).await?;
    if args.json {
        let protocol = if args.udp { "udp" } else { "tcp" };
        let input = json!({"from": args.from, "to": args.to, "protocol": protocol, "port": request.port});
        print_line(&with_outcome(input, &Ok(outcome.clone())).to_string())?;
    } else {
        print_line(outcome.verdict.name())?;
    }
    Ok(outcome.verdict.exit_code())
}

async fn probe(places: &mut Places<'_>, request: &Request) -> Result<Outcome> {
    let source = places.source(&request.from)?;
    let target = places.target(&request.to)?;
    places.listen(&target, request.transport, request.port)?;
    attempt::probe(&source, target.address, request.transport, request.port).await
}

/// Probes all lines at once and gives out what was found in their order.
async fn batch(
    layout: &Layout,
    plan: &Plan,
    text: &str,
    give: &mut (dyn FnMut(&Value) -> Result<(), Failure> + Send),
) -> Result<u8, Failure> {
    let lines = names::parse_batch(text).map_err(Error::refused)?;
    let mut places = Places::new(layout, plan)?;
    let sides: Vec<&Side> = lines
        .iter()
        .flat_map(|(_, request)| [&request.from, &request.to])
        .collect();
    // A side that cannot be had spoils its own probes only, and says so there.
    places.prepare_each(&sides).await;
    // Every server listens before the first packet is sent.
    let ready: Vec<_> = lines
        .iter()
        .map(|(_, request)| {
            let source = places.source(&request.from)?;
            let target = places.target(&request.to)?;
            places.listen(&target, request.transport, request.port)?;
            Ok((source, target, request))
        })
        .collect();
    let probes = ready
        .into_iter()
        .map(|ready: Result<(_, Target, &Request)>| async move {
            let (source, target, request) = ready?;
            attempt::probe(&source, target.address, request.transport, request.port).await
        });
    let mut outcomes = futures::stream::iter(probes).buffered(attempt::at_once());
    let mut code = 0;
    for (number, (input, _)) in lines.iter().enumerate() {
        let Some(outcome) = outcomes.next().await else {
            break;
        };
        if let Err(error) = &outcome {
            say(&format!("probe {}: {error}", number + 1));
            code = NOT_MADE;
        }
        give(&with_outcome(Value::Object(input.clone()), &outcome))?;
    }
    Ok(code)
}

fn read(file: &Path) -> Result<String> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text))
    };
    match read {
        Ok(_) => Ok(text),
        Err(error) => Err(Error::io(format!("--batch {}", file.display()), error)),
    }
}

fn with_outcome(input: Value, outcome: &Result<Outcome>) -> Value {
    let mut line = match input {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    let (verdict, server) = match outcome {
        Ok(outcome) => (json!(outcome.verdict.name()), json!(outcome.server)),
        Err(error) => {
            line.insert("error".to_owned(), json!(error.to_string()));
            (Value::Null, Value::Null)
        }
    };
    line.insert("verdict".to_owned(), verdict);
    line.insert("server".to_owned(), server);
    Value::Object(line)
}

fn print_line(text: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout().lock(), "{text}")
        .map_err(|e| Failure::Output(Error::io("write to standard output", e)))
}

fn say(text: &str) {
    // There is nowhere left to say that standard error is closed.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests;
