//! Health: named reporters, each live and ready or not, stale after a timeout.
//!
//! The process is live (ready) when every reporter that reports liveness (readiness) said so, recently enough.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Which of the two a reporter reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reports {
    /// It takes part in liveness.
    pub live: bool,
    /// It takes part in readiness.
    pub ready: bool,
}

impl Reports {
    /// Both liveness and readiness.
    pub const BOTH: Self = Self {
        live: true,
        ready: true,
    };
    /// Liveness only.
    pub const LIVE: Self = Self {
        live: true,
        ready: false,
    };
    /// Readiness only.
    pub const READY: Self = Self {
        live: false,
        ready: true,
    };
}

#[derive(Clone, Debug)]
struct State {
    reports: Reports,
    timeout: Option<Duration>,
    reported: Instant,
    live: bool,
    ready: bool,
    detail: String,
}

/// All reporters of a process. Cheap to clone.
#[derive(Clone, Default, Debug)]
pub struct Health {
    reporters: Arc<Mutex<BTreeMap<String, State>>>,
}

/// The answer to a probe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Summary {
    /// Every reporter of liveness is live.
    pub live: bool,
    /// Every reporter of readiness is ready.
    pub ready: bool,
    /// A table of all reporters, for people.
    pub table: String,
}

/// One reporter's voice.
#[derive(Clone, Debug)]
pub struct Reporter {
    name: String,
    health: Health,
}

impl Health {
    /// No reporters: live and ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a reporter; it counts as live and not ready until it speaks. Without a timeout its word holds for ever.
    pub fn register(&self, name: impl Into<String>, reports: Reports, timeout: Option<Duration>) -> Reporter {
        let name = name.into();
        let state = State {
            reports,
            timeout,
            reported: Instant::now(),
            live: true,
            ready: false,
            detail: String::new(),
        };
        self.lock().insert(name.clone(), state);
        Reporter {
            name,
            health: self.clone(),
        }
    }

    /// What a probe is told at an instant.
    pub fn summary(&self, now: Instant) -> Summary {
        let reporters = self.lock();
        let mut summary = Summary {
            live: true,
            ready: true,
            table: String::new(),
        };
        let width = reporters
            .keys()
            .map(String::len)
            .max()
            .unwrap_or(0)
            .max("COMPONENT".len());
        let _ = writeln!(
            summary.table,
            "{:width$}  TIMEOUT  LIVENESS         READINESS        DETAIL",
            "COMPONENT"
        );
        for (name, state) in reporters.iter() {
            let stale = state
                .timeout
                .is_some_and(|timeout| now.saturating_duration_since(state.reported) > timeout);
            summary.live &= !state.reports.live || (state.live && !stale);
            summary.ready &= !state.reports.ready || (state.ready && !stale);
            let timeout = state
                .timeout
                .map_or_else(|| "-".to_owned(), |timeout| format!("{}s", timeout.as_secs_f64()));
            let live = word(state.reports.live, stale, state.live, "live");
            let ready = word(state.reports.ready, stale, state.ready, "ready");
            let _ = writeln!(
                summary.table,
                "{name:width$}  {timeout:7}  {live:15}  {ready:15}  {}",
                state.detail
            );
        }
        summary
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, State>> {
        // A panic while holding the lock leaves plain data behind; answering probes matters more.
        self.reporters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn word(reported: bool, stale: bool, good: bool, name: &str) -> String {
    match (reported, stale, good) {
        (false, _, _) => "-".to_owned(),
        (true, true, _) => "timed out".to_owned(),
        (true, false, true) => format!("reporting {name}"),
        (true, false, false) => format!("not {name}"),
    }
}

impl Reporter {
    /// Says how it is, now.
    pub fn report(&self, live: bool, ready: bool, detail: impl Into<String>) {
        if let Some(state) = self.health.lock().get_mut(&self.name) {
            state.live = live;
            state.ready = ready;
            state.detail = detail.into();
            state.reported = Instant::now();
        }
    }

    /// Says that it still is as it was.
    pub fn alive(&self) {
        if let Some(state) = self.health.lock().get_mut(&self.name) {
            state.reported = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reporter_has_a_veto_in_what_it_reports() {
        let health = Health::new();
        let now = Instant::now();
        assert!(health.summary(now).live && health.summary(now).ready);
        let startup = health.register("FelixStartup", Reports::READY, None);
        let main_loop = health.register("MainLoop", Reports::BOTH, Some(Duration::from_secs(90)));
        assert!(health.summary(now).live && !health.summary(now).ready);
        startup.report(false, true, "");
        main_loop.report(true, true, "");
        let summary = health.summary(Instant::now());
        assert!(summary.live && summary.ready, "{}", summary.table);
        let later = health.summary(Instant::now() + Duration::from_secs(91));
        assert!(!later.live && !later.ready);
        assert!(later.table.contains("timed out"), "{}", later.table);
        main_loop.report(false, true, "stuck");
        assert!(health.summary(Instant::now()).table.contains("stuck"));
        assert!(!health.summary(Instant::now()).live);
    }
}
