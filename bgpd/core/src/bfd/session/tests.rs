//! Two sessions under a virtual clock, with a wire between them that loses what it is told to.

use super::*;

struct Pair {
    now: Instant,
    ends: [Session; 2],
    cut: [bool; 2],
    /// Changes of either end, with the milliseconds since the start.
    changes: Vec<(u64, usize, State, State)>,
    sent: [Vec<(u64, Packet)>; 2],
    started: Instant,
}

impl Pair {
    #[expect(clippy::disallowed_methods, reason = "a beginning for the virtual clock")]
    fn new(a: Settings, b: Settings) -> Self {
        let now = Instant::now();
        Self {
            now,
            ends: [Session::new(a, 10, 1, now), Session::new(b, 20, 2, now)],
            cut: [false; 2],
            changes: Vec::new(),
            sent: [Vec::new(), Vec::new()],
            started: now,
        }
    }

    fn millis(&self) -> u64 {
        u64::try_from((self.now - self.started).as_millis()).unwrap()
    }

    fn drain(&mut self) {
        loop {
            let mut moved = false;
            for index in 0..2 {
                while let Some(output) = self.ends[index].poll_output() {
                    moved = true;
                    match output {
                        Output::Send(bytes) => {
                            let packet = Packet::parse(&bytes).unwrap();
                            let millis = self.millis();
                            self.sent[index].push((millis, packet));
                            if !self.cut[index] {
                                self.ends[1 - index].handle_packet(self.now, &packet);
                            }
                        }
                        Output::Changed { from, to, .. } => {
                            let millis = self.millis();
                            self.changes.push((millis, index, from, to));
                        }
                    }
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn pass(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        loop {
            let due = self.ends.iter().filter_map(Session::poll_timeout).min();
            let Some(due) = due.filter(|due| *due <= end) else {
                break;
            };
            self.now = self.now.max(due);
            for index in 0..2 {
                self.ends[index].handle_timeout(self.now);
            }
            self.drain();
        }
        self.now = end;
    }

    fn states(&self) -> [State; 2] {
        [self.ends[0].state, self.ends[1].state]
    }
}

fn settings(transmit_millis: u32, receive_millis: u32, multiplier: u8) -> Settings {
    Settings {
        transmit_millis,
        receive_millis,
        multiplier,
        ..Settings::default()
    }
}

fn up(a: Settings, b: Settings) -> Pair {
    let mut pair = Pair::new(a, b);
    pair.pass(3000);
    assert_eq!(pair.states(), [State::Up; 2]);
    pair
}

#[test]
fn both_ends_come_up_and_agree_on_the_slower_interval() {
    let pair = up(settings(100, 50, 3), settings(50, 200, 5));
    let [a, b] = [0, 1].map(|index| pair.ends[index].status(pair.now));
    assert_eq!((a.transmit_millis, b.transmit_millis), (200, 50));
    // The neighbour's multiplier, and the slower of its sending and our receiving.
    assert_eq!((a.detect_millis, b.detect_millis), (5 * 50, 3 * 200));
    assert!(!pair.ends[0].polls && !pair.ends[1].polls, "poll sequences end");
}

#[test]
fn a_silent_neighbour_is_noticed_within_the_detection_time() {
    let mut pair = up(settings(50, 50, 3), settings(50, 50, 3));
    pair.changes.clear();
    pair.cut = [false, true];
    let cut_at = pair.millis();
    pair.pass(1000);
    let (at, index, from, to) = pair.changes[0];
    assert_eq!((index, from, to), (0, State::Up, State::Down));
    assert!((at - cut_at) <= 150, "after {} ms", at - cut_at);
    assert_eq!(pair.ends[0].diagnostic, Diagnostic::TimeExpired);
    // The one that is still heard is told, and so is down too.
    assert_eq!(pair.ends[1].state, State::Down);
    assert_eq!(pair.ends[1].diagnostic, Diagnostic::NeighborDown);
    pair.cut = [false; 2];
    pair.pass(5000);
    assert_eq!(pair.states(), [State::Up; 2]);
    assert_eq!(pair.ends[0].status(pair.now).down_count, 1);
}

#[test]
fn whoever_is_not_up_sends_once_a_second_at_most() {
    let mut pair = Pair::new(settings(10, 10, 3), settings(10, 10, 3));
    pair.cut = [true; 2];
    pair.pass(10_000);
    assert!((10..=14).contains(&pair.sent[0].len()), "{}", pair.sent[0].len());
    assert!(
        pair.sent[0]
            .iter()
            .all(|(_, packet)| packet.desired_min_tx >= SLOW)
    );
}

#[test]
fn intervals_are_jittered_and_never_longer_than_agreed() {
    let mut pair = up(settings(100, 100, 1), settings(100, 100, 3));
    pair.sent[0].clear();
    pair.pass(20_000);
    let gaps: Vec<u64> = pair.sent[0].windows(2).map(|two| two[1].0 - two[0].0).collect();
    assert!(gaps.iter().all(|gap| (74..=91).contains(gap)), "{gaps:?}");
    assert!(gaps.iter().min() != gaps.iter().max());
}

#[test]
fn switching_off_is_no_failure() {
    let mut pair = up(Settings::default(), Settings::default());
    pair.ends[1].shut_down(pair.now);
    let mut administrative = None;
    while let Some(output) = pair.ends[1].poll_output() {
        if let Output::Send(bytes) = output {
            pair.ends[0].handle_packet(pair.now, &Packet::parse(&bytes).unwrap());
        }
    }
    while let Some(output) = pair.ends[0].poll_output() {
        if let Output::Changed {
            to,
            is_administrative,
            ..
        } = output
        {
            administrative = Some((to, is_administrative));
        }
    }
    assert_eq!(administrative, Some((State::Down, true)));
    assert_eq!(pair.ends[1].poll_timeout(), None);
}

#[test]
fn a_changed_interval_waits_for_the_neighbour_and_costs_no_session() {
    let mut pair = up(settings(100, 100, 3), settings(100, 100, 3));
    pair.changes.clear();
    let now = pair.now;
    pair.ends[0].set_settings(now, settings(400, 400, 3));
    // Slower sending waits for the poll sequence.
    assert_eq!(pair.ends[0].status(now).transmit_millis, 100);
    pair.pass(2000);
    assert_eq!(pair.ends[0].status(pair.now).transmit_millis, 400);
    assert_eq!(pair.ends[1].status(pair.now).detect_millis, 1200);
    let now = pair.now;
    pair.ends[0].set_settings(now, settings(50, 50, 3));
    pair.pass(2000);
    assert_eq!(pair.ends[0].status(pair.now).transmit_millis, 100);
    assert_eq!(pair.changes, []);
}

#[test]
fn packets_for_another_session_change_nothing() {
    let mut pair = up(Settings::default(), Settings::default());
    let mut packet = pair.sent[1].last().unwrap().1;
    packet.state = State::Down;
    packet.your_discriminator = 99;
    pair.ends[0].handle_packet(pair.now, &packet);
    assert_eq!(pair.ends[0].state, State::Up);
    // A neighbour that has restarted names none.
    packet.your_discriminator = 0;
    pair.ends[0].handle_packet(pair.now, &packet);
    assert_eq!(pair.ends[0].state, State::Down);
}

#[test]
fn a_neighbour_in_demand_mode_or_that_takes_nothing_is_not_sent_to() {
    let mut pair = up(Settings::default(), Settings::default());
    let mut packet = pair.sent[1].last().unwrap().1;
    packet.poll = false;
    packet.demand = true;
    pair.ends[0].handle_packet(pair.now, &packet);
    assert!(!pair.ends[0].may_send());
    packet.demand = false;
    packet.required_min_rx = Duration::ZERO;
    pair.ends[0].handle_packet(pair.now, &packet);
    assert!(!pair.ends[0].may_send());
}

#[test]
fn lossy_wires_keep_both_ends_of_one_mind() {
    let mut rng = SmallRng::seed_from_u64(3);
    for _ in 0..50 {
        let mut pair = Pair::new(settings(50, 50, 3), settings(70, 30, 2));
        for _ in 0..40 {
            pair.cut = [rng.random_bool(0.3), rng.random_bool(0.3)];
            pair.pass(rng.random_range(1..400));
        }
        pair.cut = [false; 2];
        pair.pass(5000);
        assert_eq!(pair.states(), [State::Up; 2]);
    }
}
