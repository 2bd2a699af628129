//! Next hops in use and the way to each (RFC 4271 §9.1.2.1): counts users, remembers what the shell reported.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use super::way::Way;
use crate::input::Resolution;
use crate::output::Output;

#[derive(Debug, Default)]
struct Tracked {
    users: usize,
    resolution: Option<Resolution>,
    /// The shell has said something about it.
    is_answered: bool,
}

/// All next hops that paths of peers use.
#[derive(Debug, Default)]
pub(crate) struct NextHops {
    enabled: bool,
    tracked: BTreeMap<IpAddr, Tracked>,
    /// How many of them the shell has said nothing about yet.
    unanswered: usize,
}

impl NextHops {
    /// Turns tracking on or off; true when that is a change. Either way nothing is tracked after a change.
    pub(crate) fn enable(&mut self, enabled: bool, out: &mut VecDeque<Output>) -> bool {
        if self.enabled == enabled {
            return false;
        }
        self.enabled = enabled;
        self.unanswered = 0;
        for address in std::mem::take(&mut self.tracked).into_keys() {
            out.push_back(Output::UnwatchNextHop(address));
        }
        true
    }

    /// Counts a user of a next hop.
    pub(crate) fn add(&mut self, address: Option<IpAddr>, out: &mut VecDeque<Output>) {
        if let Some(address) = address {
            let tracked = self.tracked.entry(address).or_default();
            tracked.users += 1;
            if tracked.users == 1 {
                self.unanswered += 1;
                out.push_back(Output::WatchNextHop(address));
            }
        }
    }

    /// Counts a user less.
    pub(crate) fn remove(&mut self, address: Option<IpAddr>, out: &mut VecDeque<Output>) {
        if let Some(address) = address
            && let Some(tracked) = self.tracked.get_mut(&address)
        {
            tracked.users -= 1;
            if tracked.users == 0 {
                self.unanswered -= usize::from(!tracked.is_answered);
                self.tracked.remove(&address);
                out.push_back(Output::UnwatchNextHop(address));
            }
        }
    }

    /// Takes a report; true when it changes anything.
    pub(crate) fn report(&mut self, address: IpAddr, resolution: Option<Resolution>) -> bool {
        let Some(tracked) = self.tracked.get_mut(&address) else {
            return false;
        };
        if !tracked.is_answered {
            tracked.is_answered = true;
            self.unanswered -= 1;
        }
        let is_new = tracked.resolution != resolution;
        tracked.resolution = resolution;
        is_new
    }

    /// Whether there is a next hop that nothing is known about yet.
    pub(crate) fn awaits_answers(&self) -> bool {
        self.unanswered > 0
    }

    /// Cost of the way to the next hop; `None` when there is none, or none is known yet.
    pub(crate) fn cost(&self, way: &Way) -> Option<u32> {
        match self.address_of(way) {
            None => Some(0),
            Some(address) => {
                let tracked = self.tracked.get(&address)?;
                tracked.resolution.as_ref().map(|found| found.metric)
            }
        }
    }

    /// The next hop that paths of this way are users of.
    pub(crate) fn address_of(&self, way: &Way) -> Option<IpAddr> {
        if !self.enabled {
            return None;
        }
        let next_hop = way.next_hop.as_ref().filter(|_| way.peer().is_some())?;
        Some(next_hop.address)
    }
}
