//! The process: its arguments, its log and how it ends.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};
use tracing_subscriber::filter::LevelFilter;

use crate::args::{Arguments, LogLevel};
use crate::connect::Access;
use crate::run;
use crate::terminal::Terminal;

/// Commands that calicoctl does not have.
const OWN_COMMANDS: &[&str] = &[
    "bgp",
    "completion",
    "convert",
    "doctor",
    "man",
    "policy",
    "reference",
    "trace",
];

/// Carries out the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match parse() {
        Ok(arguments) => arguments,
        Err(error) if !error.use_stderr() => {
            // Help and version; nothing is left to do when even this cannot be printed.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            let text = error.to_string();
            let code = usage_code(std::env::args_os());
            return fail(text.trim_start_matches("error: ").trim_end(), false, code);
        }
    };
    log(arguments.global.log_level);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}"), false, 1),
    };
    let terminal = Terminal::of_process();
    match runtime.block_on(run(arguments, &terminal, &Access::Environment)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure.to_string(), failure.is_on_stdout(), failure.code()),
    }
}

/// The arguments, under the name that the program was called by: kubectl starts its plugins by theirs.
fn parse() -> Result<Arguments, clap::Error> {
    let words: Vec<OsString> = std::env::args_os().collect();
    let called = words.first().map(Path::new).and_then(Path::file_name);
    let name = match called.and_then(|name| name.to_str()) {
        Some(name) if name.starts_with("kubectl-") => "kubectl-caracal",
        _ => "caracalctl",
    };
    let matches = Arguments::command().name(name).try_get_matches_from(words)?;
    Arguments::from_arg_matches(&matches)
}

/// The exit code for a command line that cannot be understood: 1 for commands that calicoctl has, as there, 2 for ours.
fn usage_code(words: impl Iterator<Item = OsString>) -> u8 {
    let mut words = words.skip(1).filter_map(|word| word.into_string().ok());
    let is_own = words.any(|word| OWN_COMMANDS.contains(&word.as_str()));
    if is_own { 2 } else { 1 }
}

/// Writes the log to stderr from a level on.
fn log(level: LogLevel) {
    let filter = match level {
        LogLevel::Panic | LogLevel::Fatal => return,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    tracing_subscriber::fmt()
        .with_max_level(filter)
        .with_writer(std::io::stderr)
        .init();
}

#[expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "messages of a command line program go to stderr, and a few of calicoctl's to stdout"
)]
fn fail(text: &str, on_stdout: bool, code: u8) -> ExitCode {
    match (text.is_empty(), on_stdout) {
        (true, _) => {}
        (false, true) => println!("{text}"),
        (false, false) => eprintln!("{text}"),
    }
    ExitCode::from(code)
}
