//! When to take, renew or leave a Lease. Pure: time is an argument.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

use super::Candidate;

/// What is to be done about the Lease.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// There is none: make it.
    Create(Lease),
    /// It is ours, free or forfeited: write it, if it has not changed.
    Update(Lease),
    /// It is somebody else's.
    Wait,
}

/// What is remembered between looks.
#[derive(Debug)]
pub(super) struct Election {
    candidate: Candidate,
    /// The last content, and when it was first seen by this process's own clock.
    seen: Option<(LeaseSpec, Instant)>,
    held: bool,
}

impl Election {
    pub(super) fn new(candidate: &Candidate) -> Self {
        Self {
            candidate: candidate.clone(),
            seen: None,
            held: false,
        }
    }

    /// Decides what to do about the Lease as it is.
    pub(super) fn step(&mut self, lease: Option<Lease>, now: Instant, wall: Timestamp) -> Step {
        let Some(lease) = lease else {
            self.held = true;
            return Step::Create(Lease {
                metadata: ObjectMeta {
                    namespace: Some(self.candidate.namespace.clone()),
                    name: Some(self.candidate.name.clone()),
                    ..ObjectMeta::default()
                },
                spec: Some(self.term(wall, wall, 0)),
            });
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let since = match &self.seen {
            Some((seen, since)) if *seen == spec => *since,
            _ => {
                self.seen = Some((spec.clone(), now));
                now
            }
        };
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        let transitions = spec.lease_transitions.unwrap_or_default();
        let acquired = spec.acquire_time.as_ref().map(|time| time.0);
        let new = if holder == self.candidate.identity {
            self.term(acquired.unwrap_or(wall), wall, transitions)
        } else if holder.is_empty() || now >= since + duration_of(&spec) {
            self.term(wall, wall, transitions.saturating_add(1))
        } else {
            self.held = false;
            return Step::Wait;
        };
        self.held = true;
        Step::Update(Lease {
            spec: Some(new),
            ..lease
        })
    }

    /// How long until the next look; those who wait look at slightly different times.
    pub(super) fn pause(&self, began: Instant, now: Instant) -> Duration {
        let period = self.candidate.times.retry_period;
        let spread = if self.held {
            Duration::ZERO
        } else {
            let sum = self.candidate.identity.bytes().fold(0u32, |sum, byte| {
                sum.wrapping_mul(31).wrapping_add(u32::from(byte))
            });
            period * (sum % 100) / 500
        };
        (period + spread).saturating_sub(now.saturating_duration_since(began))
    }

    fn term(&self, acquired: Timestamp, renewed: Timestamp, transitions: i32) -> LeaseSpec {
        let seconds = self.candidate.times.duration.as_secs().max(1);
        LeaseSpec {
            holder_identity: Some(self.candidate.identity.clone()),
            lease_duration_seconds: Some(i32::try_from(seconds).unwrap_or(i32::MAX)),
            acquire_time: Some(MicroTime(acquired)),
            renew_time: Some(MicroTime(renewed)),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }
}

/// How long the holder of this Lease may be silent.
fn duration_of(spec: &LeaseSpec) -> Duration {
    let seconds = spec
        .lease_duration_seconds
        .and_then(|seconds| u64::try_from(seconds).ok())
        .filter(|seconds| *seconds > 0);
    seconds.map_or(super::DURATION, Duration::from_secs)
}

/// The Lease given up by its holder; `None` when it is somebody else's.
pub(super) fn released(lease: Lease, identity: &str, wall: Timestamp) -> Option<Lease> {
    let spec = lease.spec.clone()?;
    if spec.holder_identity.as_deref() != Some(identity) {
        return None;
    }
    let spec = LeaseSpec {
        holder_identity: Some(String::new()),
        lease_duration_seconds: Some(1),
        renew_time: Some(MicroTime(wall)),
        acquire_time: Some(MicroTime(wall)),
        ..spec
    };
    Some(Lease {
        spec: Some(spec),
        ..lease
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn election(identity: &str) -> Election {
        Election::new(&Candidate {
            namespace: "kube-system".to_owned(),
            name: "lease".to_owned(),
            identity: identity.to_owned(),
            times: super::super::Times::default(),
        })
    }

    fn wall(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn taken(step: Step) -> Lease {
        match step {
            Step::Create(lease) | Step::Update(lease) => lease,
            Step::Wait => panic!("the Lease was not taken"),
        }
    }

    #[test]
    fn a_silent_holder_loses_the_lease_after_its_whole_duration_and_not_before() {
        let start = Instant::now();
        let mut one = election("one");
        let mut two = election("two");
        let lease = taken(one.step(None, start, wall(0)));
        // Two looks for the first time 5 s later: its wait begins then, whatever the holder's clock wrote.
        let seen = start + Duration::from_secs(5);
        assert_eq!(two.step(Some(lease.clone()), seen, wall(9999)), Step::Wait);
        let just_before = seen + Duration::from_millis(14_999);
        assert_eq!(two.step(Some(lease.clone()), just_before, wall(9999)), Step::Wait);
        let after = seen + Duration::from_secs(15);
        let lease = taken(two.step(Some(lease), after, wall(20)));
        assert_eq!(lease.spec.as_ref().unwrap().lease_transitions, Some(1));
        assert_eq!(one.step(Some(lease), after, wall(20)), Step::Wait);
    }

    #[test]
    fn a_renewal_restarts_the_wait_and_keeps_the_time_of_acquisition() {
        let start = Instant::now();
        let mut one = election("one");
        let mut two = election("two");
        let lease = taken(one.step(None, start, wall(0)));
        assert_eq!(two.step(Some(lease.clone()), start, wall(0)), Step::Wait);
        let later = start + Duration::from_secs(14);
        let lease = taken(one.step(Some(lease), later, wall(14)));
        let spec = lease.spec.clone().unwrap();
        assert_eq!(spec.acquire_time, Some(MicroTime(wall(0))));
        assert_eq!(spec.renew_time, Some(MicroTime(wall(14))));
        assert_eq!(spec.lease_transitions, Some(0));
        let end = start + Duration::from_secs(28);
        assert_eq!(
            two.step(Some(lease), end - Duration::from_secs(1), wall(0)),
            Step::Wait
        );
    }

    #[test]
    fn a_lease_that_was_given_up_is_taken_at_once() {
        let now = Instant::now();
        let mut one = election("one");
        let mut two = election("two");
        let lease = taken(one.step(None, now, wall(0)));
        assert_eq!(released(lease.clone(), "two", wall(1)), None);
        let free = released(lease, "one", wall(1)).unwrap();
        let lease = taken(two.step(Some(free), now, wall(1)));
        assert_eq!(lease.spec.unwrap().holder_identity.as_deref(), Some("two"));
    }

    #[test]
    fn a_lease_with_an_odd_duration_is_waited_for_like_any_other() {
        let now = Instant::now();
        let mut two = election("two");
        for odd in [None, Some(0), Some(-5)] {
            let mut lease = taken(election("one").step(None, now, wall(0)));
            lease.spec.as_mut().unwrap().lease_duration_seconds = odd;
            assert_eq!(two.step(Some(lease.clone()), now, wall(0)), Step::Wait);
            assert_eq!(
                two.step(Some(lease), now + Duration::from_secs(14), wall(0)),
                Step::Wait
            );
        }
    }
}
