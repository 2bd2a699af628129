//! The state machine of one session (RFC 5880 §6.2, §6.8): states, poll sequences, intervals, detection.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::packet::{Diagnostic, PACKET_LEN, Packet, State};
use super::{Settings, Status};

/// RFC 5880 §6.8.3: whoever is not up sends no faster than this.
const SLOW: Duration = Duration::from_secs(1);

/// What a session wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this to the neighbour.
    Send([u8; PACKET_LEN]),
    /// The state has changed.
    Changed {
        /// From.
        from: State,
        /// To.
        to: State,
        /// The neighbour was switched off by an operator: no failure (RFC 5882 §3.2).
        is_administrative: bool,
    },
}

/// One session.
#[derive(Debug)]
pub struct Session {
    settings: Settings,
    discriminator: u32,
    state: State,
    since: Instant,
    diagnostic: Diagnostic,
    remote: Remote,
    /// Desired Min TX and Required Min RX as they count until the neighbour has confirmed a change (§6.8.3).
    confirmed: Option<(Duration, Duration)>,
    polls: bool,
    send_at: Option<Instant>,
    detect_at: Option<Instant>,
    out: VecDeque<Output>,
    rng: SmallRng,
    counters: Counters,
}

/// What the neighbour last said.
#[derive(Debug)]
struct Remote {
    discriminator: u32,
    state: State,
    demand: bool,
    multiplier: u8,
    desired_min_tx: Duration,
    required_min_rx: Duration,
}

impl Remote {
    /// RFC 5880 §6.8.1.
    const UNKNOWN: Self = Self {
        discriminator: 0,
        state: State::Down,
        demand: false,
        multiplier: 0,
        desired_min_tx: Duration::ZERO,
        required_min_rx: Duration::from_micros(1),
    };
}

#[derive(Debug, Default)]
struct Counters {
    up: u64,
    down: u64,
    packets_in: u64,
    packets_out: u64,
}

impl Session {
    /// A session that begins to ask. `discriminator` is unique among this host's sessions and not zero; `seed` makes
    /// its jitter reproducible.
    #[must_use]
    pub fn new(settings: Settings, discriminator: u32, seed: u64, now: Instant) -> Self {
        Self {
            settings,
            discriminator,
            state: State::Down,
            since: now,
            diagnostic: Diagnostic::None,
            remote: Remote::UNKNOWN,
            confirmed: None,
            polls: false,
            send_at: Some(now),
            detect_at: None,
            out: VecDeque::new(),
            rng: SmallRng::seed_from_u64(seed),
            counters: Counters::default(),
        }
    }

    /// The number that the neighbour's packets name this session by.
    #[must_use]
    pub fn discriminator(&self) -> u32 {
        self.discriminator
    }

    /// Takes a packet that is for this session.
    pub fn handle_packet(&mut self, now: Instant, packet: &Packet) {
        if packet.your_discriminator != 0 && packet.your_discriminator != self.discriminator {
            return;
        }
        self.counters.packets_in += 1;
        self.remote = Remote {
            discriminator: packet.my_discriminator,
            state: packet.state,
            demand: packet.demand,
            multiplier: packet.multiplier,
            desired_min_tx: packet.desired_min_tx,
            required_min_rx: packet.required_min_rx,
        };
        if packet.is_final && self.polls {
            self.polls = false;
            self.confirmed = None;
        }
        if self.state == State::AdminDown {
            return;
        }
        self.move_on(now, packet.state);
        self.detect_at = Some(now + self.detection_time());
        if packet.poll {
            self.send(true);
        }
        self.hasten(now);
    }

    /// RFC 5880 §6.8.6: what the neighbour's state does to this one.
    fn move_on(&mut self, now: Instant, theirs: State) {
        match (self.state, theirs) {
            (State::Down, State::AdminDown | State::Up) | (State::AdminDown, _) => {}
            (State::Down, State::Down) => self.enter(now, State::Init, Diagnostic::None),
            (State::Down | State::Init, State::Init) | (State::Init, State::Up) => {
                self.enter(now, State::Up, Diagnostic::None);
            }
            (State::Init, State::Down) | (State::Up, State::Init | State::Up) => {}
            (State::Init | State::Up, State::AdminDown) | (State::Up, State::Down) => {
                self.enter(now, State::Down, Diagnostic::NeighborDown);
            }
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.detect_at.is_some_and(|at| at <= now) {
            self.detect_at = None;
            // §6.8.1: who has been silent for so long may have forgotten its number.
            self.remote = Remote::UNKNOWN;
            if matches!(self.state, State::Init | State::Up) {
                self.enter(now, State::Down, Diagnostic::TimeExpired);
            }
        }
        if self.send_at.is_some_and(|at| at <= now) {
            if self.may_send() {
                self.send(false);
            }
            self.send_at = Some(now + self.jittered_interval());
        }
    }

    /// Returns the next wish. Drain until `None` after every call of a handler.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// Returns when `handle_timeout` is to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.send_at.into_iter().chain(self.detect_at).min()
    }

    /// Changes what this end wants. A session that is up stays up.
    pub fn set_settings(&mut self, now: Instant, settings: Settings) {
        let before = (self.desired_min_tx(), self.settings.receive());
        self.settings = settings;
        let after = (self.desired_min_tx(), settings.receive());
        if before != after && self.state == State::Up {
            // §6.8.3: sending slower and detecting faster wait until the neighbour knows.
            let (tx, rx) = self.confirmed.unwrap_or(before);
            self.confirmed = Some((tx.min(after.0), rx.max(after.1)));
            self.polls = true;
            self.hasten(now);
        }
    }

    /// Says that this end is switched off, which is no failure, and says nothing more.
    pub fn shut_down(&mut self, now: Instant) {
        self.enter(now, State::AdminDown, Diagnostic::AdminDown);
        self.send(false);
        self.send_at = None;
        self.detect_at = None;
    }

    /// The session for people.
    #[must_use]
    pub fn status(&self, now: Instant) -> Status {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Status {
            state: self.state,
            remote_state: self.remote.state,
            state_seconds: now.saturating_duration_since(self.since).as_secs(),
            diagnostic: self.diagnostic,
            transmit_millis: millis(self.interval()),
            detect_millis: millis(self.detection_time()),
            up_count: self.counters.up,
            down_count: self.counters.down,
            packets_in: self.counters.packets_in,
            packets_out: self.counters.packets_out,
            problem: None,
        }
    }

    fn enter(&mut self, now: Instant, to: State, diagnostic: Diagnostic) {
        let from = std::mem::replace(&mut self.state, to);
        if from == to {
            return;
        }
        self.since = now;
        // What brought a session down is told until it is up again.
        if to == State::Up {
            self.counters.up += 1;
            self.diagnostic = Diagnostic::None;
        } else if diagnostic != Diagnostic::None {
            self.diagnostic = diagnostic;
        }
        self.counters.down += u64::from(from == State::Up);
        // §6.8.3: the interval that is wished for depends on the state, and a new wish is told by a poll sequence.
        self.confirmed = None;
        self.polls = from == State::Up || to == State::Up;
        let is_administrative = self.remote.state == State::AdminDown || to == State::AdminDown;
        self.out.push_back(Output::Changed {
            from,
            to,
            is_administrative,
        });
        // The neighbour need not wait for the interval to learn of it.
        self.send_at = Some(now);
    }

    /// Desired Min TX Interval as it is told.
    fn desired_min_tx(&self) -> Duration {
        let wanted = self.settings.transmit();
        if self.state == State::Up {
            wanted
        } else {
            wanted.max(SLOW)
        }
    }

    /// §6.8.2: the interval at which packets go out, before jitter.
    fn interval(&self) -> Duration {
        let own = self.confirmed.map_or_else(|| self.desired_min_tx(), |(tx, _)| tx);
        own.max(self.remote.required_min_rx)
    }

    /// §6.8.4: by the neighbour's multiplier and the slower of what it sends and what is taken here.
    fn detection_time(&self) -> Duration {
        let own = self
            .confirmed
            .map_or_else(|| self.settings.receive(), |(_, rx)| rx);
        own.max(self.remote.desired_min_tx) * u32::from(self.remote.multiplier)
    }

    /// §6.8.7.
    fn may_send(&self) -> bool {
        let is_asked_not_to =
            self.remote.demand && self.state == State::Up && self.remote.state == State::Up && !self.polls;
        !self.remote.required_min_rx.is_zero() && !is_asked_not_to
    }

    /// §6.8.7: up to a quarter shorter, and never so long that one lost packet brings a multiplier of 1 down.
    fn jittered_interval(&mut self) -> Duration {
        let longest = if self.settings.multiplier == 1 { 0.9 } else { 1.0 };
        self.interval().mul_f64(self.rng.random_range(0.75..longest))
    }

    /// Brings the next packet forward where it would come later than the present interval has it.
    fn hasten(&mut self, now: Instant) {
        let latest = now + self.jittered_interval();
        self.send_at = self.send_at.map(|at| at.min(latest));
    }

    fn send(&mut self, is_final: bool) {
        let packet = Packet {
            diagnostic: self.diagnostic,
            state: self.state,
            // §6.5: never both in one packet.
            poll: self.polls && !is_final && self.remote.discriminator != 0,
            is_final,
            demand: false,
            multiplier: self.settings.multiplier,
            my_discriminator: self.discriminator,
            your_discriminator: self.remote.discriminator,
            desired_min_tx: self.desired_min_tx(),
            required_min_rx: self.settings.receive(),
        };
        self.counters.packets_out += 1;
        self.out.push_back(Output::Send(packet.encode()));
    }
}

#[cfg(test)]
#[path = "session/tests.rs"]
mod tests;
