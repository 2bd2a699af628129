//! A record of everything that goes into the speaker, so that what happened in the field can be run again at a desk.
//!
//! A line is a JSON object: first the seed and whether it was a restart, then each input and each call of the clock,
//! with its time and with how many outputs were taken before it. That is all that a speaker depends on, so a replay
//! comes to the same tables. Passwords are not in it. A record that has grown to its limit ends, the speaker goes on.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use caracal_bgpd_core::snapshot::{RouteQuery, RouteStatus, SpeakerStatus};
use caracal_bgpd_core::{Input, Output, Speaker};
use serde::{Deserialize, Serialize};

/// Octets of a record at most.
const RECORD_LEN_MAX: usize = 1 << 30;

/// Why a record cannot be written or replayed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be made, read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line is none of a record.
    #[error("{path}, line {line}: {source}; is it a file of --record, of this version?")]
    Line {
        /// The file.
        path: PathBuf,
        /// Which.
        line: usize,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// It does not begin as a record does.
    #[error("{path}: the first line has no seed; is it a file of --record?")]
    Beginning {
        /// The file.
        path: PathBuf,
    },
}

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Line {
    Start {
        seed: u64,
        restarting: bool,
    },
    /// `None` is a call of the clock.
    Step {
        micros: u64,
        polls: u64,
        input: Option<Input>,
    },
}

/// A speaker whose inputs are recorded, where that is asked for.
pub struct Recorder {
    speaker: Speaker,
    started: Instant,
    sink: Option<Sink>,
}

struct Sink {
    file: BufWriter<File>,
    path: PathBuf,
    polls: u64,
    written: usize,
}

impl Recorder {
    /// A new speaker.
    ///
    /// # Errors
    /// When the file of the record cannot be made.
    pub fn new(seed: u64, restarting: bool, path: Option<&Path>) -> Result<Self, Error> {
        let started = Instant::now();
        let sink = path.map(|path| Sink::open(path, seed, restarting)).transpose()?;
        Ok(Self {
            speaker: Speaker::new(seed, restarting, started),
            started,
            sink,
        })
    }

    /// As [`Speaker::handle_input`].
    pub fn handle_input(&mut self, now: Instant, input: Input) {
        if self.sink.is_some() {
            self.record(now, Some(input.clone()));
        }
        self.speaker.handle_input(now, input);
    }

    /// As [`Speaker::handle_timeout`].
    pub fn handle_timeout(&mut self, now: Instant) {
        self.record(now, None);
        self.speaker.handle_timeout(now);
    }

    /// As [`Speaker::poll_output`].
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(sink) = &mut self.sink {
            sink.polls += 1;
        }
        self.speaker.poll_output()
    }

    fn record(&mut self, now: Instant, input: Option<Input>) {
        let Some(sink) = &mut self.sink else { return };
        let micros = now.saturating_duration_since(self.started).as_micros();
        let line = Line::Step {
            micros: u64::try_from(micros).unwrap_or(u64::MAX),
            polls: std::mem::take(&mut sink.polls),
            input,
        };
        if let Err(error) = sink.write(&line) {
            tracing::error!(path = %sink.path.display(), error = %error, "the record ends");
            self.sink = None;
        }
    }
}

impl Deref for Recorder {
    type Target = Speaker;

    fn deref(&self) -> &Speaker {
        &self.speaker
    }
}

impl Sink {
    fn open(path: &Path, seed: u64, restarting: bool) -> Result<Self, Error> {
        let failed = |source| Error::File {
            path: path.to_owned(),
            source,
        };
        let mut sink = Self {
            file: BufWriter::new(File::create(path).map_err(failed)?),
            path: path.to_owned(),
            polls: 0,
            written: 0,
        };
        sink.write(&Line::Start { seed, restarting }).map_err(failed)?;
        Ok(sink)
    }

    fn write(&mut self, line: &Line) -> std::io::Result<()> {
        let mut text = serde_json::to_vec(line).map_err(std::io::Error::other)?;
        text.push(b'\n');
        self.written += text.len();
        if self.written > RECORD_LEN_MAX {
            return Err(std::io::Error::other("it has grown to its limit of 1 GiB"));
        }
        self.file.write_all(&text)?;
        // What led to the end of a process is wanted most.
        self.file.flush()
    }
}

/// What a replay comes to.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Replayed {
    /// The speaker at the end.
    pub status: SpeakerStatus,
    /// Its table.
    pub routes: Vec<RouteStatus>,
    /// What people would have read, with the second of its happening.
    pub events: Vec<(f64, String)>,
    /// Steps that were run.
    pub steps: usize,
}

/// Runs a record.
///
/// # Errors
/// When the file is no record. One that was cut in its last line is run up to there.
pub fn replay(path: &Path) -> Result<Replayed, Error> {
    let failed = |source| Error::File {
        path: path.to_owned(),
        source,
    };
    let mut lines = BufReader::new(File::open(path).map_err(failed)?)
        .lines()
        .enumerate()
        .peekable();
    let mut run: Option<Run> = None;
    while let Some((number, text)) = lines.next() {
        let line: Line = match serde_json::from_str(&text.map_err(failed)?) {
            Ok(line) => line,
            Err(_) if number > 0 && lines.peek().is_none() => break,
            Err(source) => {
                return Err(Error::Line {
                    path: path.to_owned(),
                    line: number + 1,
                    source,
                });
            }
        };
        match (line, &mut run) {
            (Line::Start { seed, restarting }, None) => run = Some(Run::new(seed, restarting)),
            (Line::Step { micros, polls, input }, Some(run)) => run.step(micros, polls, input),
            _ => {
                return Err(Error::Beginning {
                    path: path.to_owned(),
                });
            }
        }
    }
    let run = run.ok_or_else(|| Error::Beginning {
        path: path.to_owned(),
    })?;
    Ok(run.end())
}

struct Run {
    speaker: Speaker,
    started: Instant,
    now: Instant,
    events: Vec<(f64, String)>,
    steps: usize,
}

impl Run {
    fn new(seed: u64, restarting: bool) -> Self {
        let started = Instant::now();
        Self {
            speaker: Speaker::new(seed, restarting, started),
            started,
            now: started,
            events: Vec::new(),
            steps: 0,
        }
    }

    fn step(&mut self, micros: u64, polls: u64, input: Option<Input>) {
        for _ in 0..polls {
            let output = self.speaker.poll_output();
            self.note(output);
        }
        self.steps += 1;
        self.now = self.started + Duration::from_micros(micros);
        match input {
            Some(input) => self.speaker.handle_input(self.now, input),
            None => self.speaker.handle_timeout(self.now),
        }
    }

    fn note(&mut self, output: Option<Output>) {
        if let Some(Output::Event(event)) = output {
            let second = (self.now - self.started).as_secs_f64();
            self.events.push((second, format!("{event:?}")));
        }
    }

    fn end(mut self) -> Replayed {
        while let Some(output) = self.speaker.poll_output() {
            self.note(Some(output));
        }
        Replayed {
            status: self.speaker.status(self.now),
            // The query names no peer, so it cannot name one that is not there.
            routes: self.speaker.routes(&RouteQuery::LocRib).unwrap_or_default(),
            events: self.events,
            steps: self.steps,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use caracal_bgpd_core::Config;
    use caracal_bgpd_core::config::{Originate, Password, Peer};

    fn config() -> Config {
        let mut config = Config::new(65000, [10, 0, 0, 1].into());
        let mut peer = Peer::new("tor", [10, 0, 0, 2].into(), 65001);
        peer.password = Some(Password::new("secret"));
        config.peers.push(peer);
        config.routes.push(Originate {
            prefix: "10.65.0.0/26".parse().unwrap(),
            communities: Vec::new(),
            med: None,
            metric: None,
            blackhole: true,
        });
        config
    }

    #[test]
    fn a_replay_comes_to_what_was_recorded_and_knows_no_password() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record");
        let mut recorder = Recorder::new(7, false, Some(&path)).unwrap();
        let mut now = Instant::now();
        recorder.handle_input(now, Input::Config(Box::new(config())));
        let mut trace = Vec::new();
        for _ in 0..20 {
            while let Some(output) = recorder.poll_output() {
                if let Output::Connect { conn, .. } = output {
                    let reason = "refused".to_owned();
                    recorder.handle_input(now, Input::ConnectFailed { conn, reason });
                }
                if let Output::Event(event) = output {
                    trace.push(format!("{event:?}"));
                }
            }
            now = recorder.poll_timeout().unwrap();
            recorder.handle_timeout(now);
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("secret"), "{text}");
        let replayed = replay(&path).unwrap();
        assert_eq!(replayed.routes, recorder.routes(&RouteQuery::LocRib).unwrap());
        assert_eq!(
            replayed.status.peers[0].state,
            recorder.status(now).peers[0].state
        );
        assert_eq!(replayed.steps, text.lines().count() - 1);
        // A record of a process that was killed in the middle of a line.
        std::fs::write(&path, &text[..text.len() - 5]).unwrap();
        assert_eq!(replay(&path).unwrap().steps, replayed.steps - 1);
    }

    #[test]
    fn what_is_no_record_is_refused_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record");
        let step = r#"{"step":{"micros":1,"polls":0,"input":null}}"#;
        for (text, expected) in [
            (String::new(), "the first line has no seed"),
            (format!("{step}\n{step}\n"), "the first line has no seed"),
            ("hello\n\n".to_owned(), "line 1"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = replay(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
