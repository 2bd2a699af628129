//! Keeping processes running: what to do when one ends, hangs, or all are to end. Pure: time and events in, wishes out.
//!
//! A process that ends is started again after a pause that doubles, and is short again once the process has lived for a
//! while. Nothing that one process does makes another end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How patient the supervisor is.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// First pause before a process is started again.
    pub pause_min: Duration,
    /// Longest pause.
    pub pause_max: Duration,
    /// A process that lived so long is healthy: the next pause is the first again.
    pub healthy_after: Duration,
    /// Time from asking a process to end until it is killed.
    pub grace: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            pause_min: Duration::from_millis(200),
            pause_max: Duration::from_secs(10),
            healthy_after: Duration::from_secs(20),
            grace: Duration::from_secs(10),
        }
    }
}

/// What a process is doing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// To be started at once.
    Due,
    /// Started again at this time.
    Pausing(Instant),
    /// Runs since.
    Running {
        /// Its process id.
        pid: i32,
        /// When it was started.
        since: Instant,
    },
    /// Was asked to end.
    Ending {
        /// Its process id.
        pid: i32,
        /// When it is killed; `None` once it was.
        kill_at: Option<Instant>,
    },
    /// Ended, and stays so.
    Ended,
}

/// A process as a person would want to know it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Child {
    /// What it is doing.
    pub state: State,
    /// How often it was started again.
    pub restarts: u32,
    /// Why it ended last.
    pub last_end: Option<String>,
    pause: Duration,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wish {
    /// Start it, and tell [`Supervisor::started`] or [`Supervisor::ended`].
    Start(String),
    /// Ask it to end.
    Terminate(i32),
    /// End it.
    Kill(i32),
}

/// The supervisor of a set of processes.
#[derive(Debug)]
pub struct Supervisor {
    patience: Patience,
    children: BTreeMap<String, Child>,
    ending: bool,
}

impl Supervisor {
    /// Processes by name, all due.
    pub fn new(names: impl IntoIterator<Item = String>, patience: Patience) -> Self {
        let child = Child {
            state: State::Due,
            restarts: 0,
            last_end: None,
            pause: patience.pause_min,
        };
        Self {
            patience,
            children: names.into_iter().map(|name| (name, child.clone())).collect(),
            ending: false,
        }
    }

    /// The processes, by name.
    #[must_use]
    pub const fn children(&self) -> &BTreeMap<String, Child> {
        &self.children
    }

    /// A process was started.
    pub fn started(&mut self, name: &str, pid: i32, now: Instant) {
        if let Some(child) = self.children.get_mut(name) {
            child.state = State::Running { pid, since: now };
        }
    }

    /// A process could not be started.
    pub fn failed_to_start(&mut self, name: &str, why: String, now: Instant) {
        let patience = self.patience;
        if let Some(child) = self.children.get_mut(name) {
            child.end(why, None, patience, now, self.ending);
        }
    }

    /// A process ended. Its name, unless the id is none of these processes': an orphan that was adopted.
    pub fn ended(&mut self, pid: i32, why: String, now: Instant) -> Option<&str> {
        let patience = self.patience;
        let ending = self.ending;
        let (name, child) = self
            .children
            .iter_mut()
            .find(|(_, child)| child.pid() == Some(pid))?;
        let since = match child.state {
            State::Running { since, .. } => Some(since),
            State::Due | State::Pausing(_) | State::Ending { .. } | State::Ended => None,
        };
        child.end(why, since, patience, now, ending);
        Some(name)
    }

    /// A process does not answer its probes any more: it is asked to end, and started again.
    pub fn hangs(&mut self, name: &str, now: Instant) -> Option<Wish> {
        let grace = self.patience.grace;
        let child = self.children.get_mut(name)?;
        match child.state {
            State::Running { pid, .. } => {
                child.state = State::Ending {
                    pid,
                    kill_at: Some(now + grace),
                };
                Some(Wish::Terminate(pid))
            }
            State::Due | State::Pausing(_) | State::Ending { .. } | State::Ended => None,
        }
    }

    /// All are to end. A second time: at once.
    pub fn end(&mut self, now: Instant) -> Vec<Wish> {
        let again = std::mem::replace(&mut self.ending, true);
        let grace = self.patience.grace;
        let mut wishes = Vec::new();
        for child in self.children.values_mut() {
            match child.state {
                State::Running { pid, .. } => {
                    child.state = State::Ending {
                        pid,
                        kill_at: Some(now + grace),
                    };
                    wishes.push(Wish::Terminate(pid));
                }
                State::Ending {
                    pid,
                    kill_at: Some(_),
                } if again => {
                    child.state = State::Ending { pid, kill_at: None };
                    wishes.push(Wish::Kill(pid));
                }
                State::Due | State::Pausing(_) => child.state = State::Ended,
                State::Ending { .. } | State::Ended => {}
            }
        }
        wishes
    }

    /// What is due at a time.
    pub fn due(&mut self, now: Instant) -> Vec<Wish> {
        let mut wishes = Vec::new();
        for (name, child) in &mut self.children {
            match child.state {
                State::Due => wishes.push(Wish::Start(name.clone())),
                State::Pausing(until) if until <= now => {
                    child.state = State::Due;
                    child.restarts = child.restarts.saturating_add(1);
                    wishes.push(Wish::Start(name.clone()));
                }
                State::Ending {
                    pid,
                    kill_at: Some(at),
                } if at <= now => {
                    child.state = State::Ending { pid, kill_at: None };
                    wishes.push(Wish::Kill(pid));
                }
                State::Pausing(_) | State::Running { .. } | State::Ending { .. } | State::Ended => {}
            }
        }
        wishes
    }

    /// When something is due next.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.children
            .values()
            .filter_map(|child| match child.state {
                State::Pausing(until) => Some(until),
                State::Ending { kill_at, .. } => kill_at,
                State::Due | State::Running { .. } | State::Ended => None,
            })
            .min()
    }

    /// All have ended, as was wished.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.ending && self.children.values().all(|child| child.state == State::Ended)
    }
}

impl Child {
    /// Its process id while there is a process.
    #[must_use]
    pub const fn pid(&self) -> Option<i32> {
        match self.state {
            State::Running { pid, .. } | State::Ending { pid, .. } => Some(pid),
            State::Due | State::Pausing(_) | State::Ended => None,
        }
    }

    fn end(&mut self, why: String, since: Option<Instant>, patience: Patience, now: Instant, for_good: bool) {
        self.last_end = Some(why);
        if for_good {
            self.state = State::Ended;
            return;
        }
        let lived = since.is_some_and(|since| now.saturating_duration_since(since) >= patience.healthy_after);
        if lived {
            self.pause = patience.pause_min;
        }
        self.state = State::Pausing(now + self.pause);
        self.pause = (self.pause * 2).min(patience.pause_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn two() -> (Supervisor, Instant) {
        let names = ["bgpd", "felix"].map(ToOwned::to_owned);
        (Supervisor::new(names, Patience::default()), Instant::now())
    }

    fn start(supervisor: &mut Supervisor, now: Instant, pid: i32) {
        for (wish, pid) in supervisor.due(now).into_iter().zip(pid..) {
            let Wish::Start(name) = wish else {
                panic!("{wish:?}")
            };
            supervisor.started(&name, pid, now);
        }
    }

    fn pause(supervisor: &Supervisor, name: &str, now: Instant) -> Duration {
        match supervisor.children()[name].state {
            State::Pausing(until) => until - now,
            ref other => panic!("{other:?}"),
        }
    }

    #[test]
    fn pauses_double_and_are_short_again_after_a_long_life() {
        let (mut supervisor, mut now) = two();
        start(&mut supervisor, now, 10);
        let mut expected = Duration::from_millis(200);
        for pid in 11..20 {
            let child = supervisor.children()["felix"].pid().unwrap();
            assert_eq!(supervisor.ended(child, "killed".to_owned(), now), Some("felix"));
            assert_eq!(pause(&supervisor, "felix", now), expected);
            assert!(supervisor.due(now).is_empty(), "not before its time");
            now = supervisor.next().unwrap();
            assert_eq!(supervisor.due(now), [Wish::Start("felix".to_owned())]);
            supervisor.started("felix", pid, now);
            expected = (expected * 2).min(Duration::from_secs(10));
        }
        assert_eq!(expected, Duration::from_secs(10));
        now += 20 * SECOND;
        supervisor.ended(19, "killed".to_owned(), now);
        assert_eq!(pause(&supervisor, "felix", now), Duration::from_millis(200));
        assert_eq!(supervisor.children()["felix"].restarts, 9);
        assert_eq!(
            supervisor.children()["bgpd"].restarts,
            0,
            "the other one was left alone"
        );
    }

    #[test]
    fn ending_asks_waits_kills_and_is_done() {
        let (mut supervisor, now) = two();
        start(&mut supervisor, now, 10);
        assert_eq!(supervisor.end(now), [Wish::Terminate(10), Wish::Terminate(11)]);
        supervisor.ended(10, "exit status: 0".to_owned(), now + SECOND);
        assert!(supervisor.due(now + SECOND).is_empty(), "not started again");
        assert!(!supervisor.is_done());
        assert_eq!(supervisor.next(), Some(now + 10 * SECOND));
        assert_eq!(supervisor.due(now + 10 * SECOND), [Wish::Kill(11)]);
        assert!(supervisor.due(now + 11 * SECOND).is_empty(), "killed once");
        supervisor.ended(11, "signal: 9".to_owned(), now + 11 * SECOND);
        assert!(supervisor.is_done());
        assert_eq!(supervisor.next(), None);
    }

    #[test]
    fn who_is_asked_to_end_twice_ends_at_once() {
        let (mut supervisor, now) = two();
        start(&mut supervisor, now, 10);
        supervisor.end(now);
        assert_eq!(supervisor.end(now), [Wish::Kill(10), Wish::Kill(11)]);
        assert!(supervisor.end(now).is_empty());
    }

    #[test]
    fn ending_does_not_wait_for_what_does_not_run() {
        let (mut supervisor, now) = two();
        supervisor.failed_to_start("felix", "no such file".to_owned(), now);
        assert!(supervisor.end(now).is_empty());
        assert!(supervisor.is_done());
        assert_eq!(
            supervisor.children()["felix"].last_end.as_deref(),
            Some("no such file")
        );
    }

    #[test]
    fn a_process_that_hangs_is_ended_and_started_again() {
        let (mut supervisor, now) = two();
        start(&mut supervisor, now, 10);
        assert_eq!(supervisor.hangs("felix", now), Some(Wish::Terminate(11)));
        assert_eq!(supervisor.hangs("felix", now), None, "once");
        assert_eq!(supervisor.due(now + 10 * SECOND), [Wish::Kill(11)]);
        supervisor.ended(11, "signal: 9".to_owned(), now + 10 * SECOND);
        let next = supervisor.next().unwrap();
        assert_eq!(supervisor.due(next), [Wish::Start("felix".to_owned())]);
    }

    #[test]
    fn orphans_are_nobodys() {
        let (mut supervisor, now) = two();
        start(&mut supervisor, now, 10);
        assert_eq!(supervisor.ended(99, "exit status: 0".to_owned(), now), None);
    }
}
