//! What a test asks of somebody else's speaker, whichever it is.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

use super::lab::{DUT_AS, Lab, eventually};
use super::peers::{bird::Bird, exabgp::ExaBgp, frr::Frr, gobgp::GoBgp};

/// The daemons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bird,
    Frr,
    GoBgp,
    ExaBgp,
}

/// How a daemon is set up towards our speaker.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// Its machine.
    pub(crate) index: usize,
    /// IPv6 addresses and routes, in place of IPv4.
    pub(crate) v6: bool,
    pub(crate) own_as: u32,
    pub(crate) password: Option<&'static str>,
    /// GTSM with one hop.
    pub(crate) ttl_security: bool,
    pub(crate) passive: bool,
    /// It reflects to our speaker.
    pub(crate) reflects: bool,
    /// It sends all the paths that it has.
    pub(crate) add_paths: bool,
    /// Its restart time, and long-lived stale routes after that (RFC 9494).
    pub(crate) long_lived: Option<u16>,
    /// Ends the session when more prefixes than this come.
    pub(crate) limit: Option<u32>,
    pub(crate) bfd: bool,
    /// The session may cross routers, and BFD too.
    pub(crate) multihop: bool,
    pub(crate) routes: Vec<Route>,
}

impl Setup {
    /// A neighbour of another AS.
    pub(crate) fn new(index: usize, routes: Vec<Route>) -> Self {
        Self {
            index,
            v6: false,
            own_as: 65001 + u32::try_from(index).unwrap(),
            password: None,
            ttl_security: false,
            passive: false,
            reflects: false,
            add_paths: false,
            long_lived: None,
            limit: None,
            bfd: false,
            multihop: false,
            routes,
        }
    }

    pub(crate) fn is_internal(&self) -> bool {
        self.own_as == DUT_AS
    }
}

/// A route that a daemon announces.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Route {
    pub(crate) prefix: String,
    /// AS numbers behind the daemon's own.
    pub(crate) as_path: Vec<u32>,
    pub(crate) med: Option<u32>,
    /// `AS:VALUE`.
    pub(crate) community: Option<String>,
    /// `AS:VALUE:VALUE`.
    pub(crate) large_community: Option<String>,
    /// Route target `AS:VALUE`.
    pub(crate) target: Option<String>,
    /// Path identifier, where several paths are sent.
    pub(crate) path_id: u32,
}

impl Route {
    pub(crate) fn plain(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            as_path: Vec::new(),
            med: None,
            community: None,
            large_community: None,
            target: None,
            path_id: 0,
        }
    }

    /// One with everything, marked by a number.
    pub(crate) fn rich(prefix: &str, mark: u32) -> Self {
        Self {
            as_path: vec![4_200_000_001, mark],
            med: Some(77),
            community: Some(format!("{mark}:7")),
            large_community: Some(format!("{mark}:1:2")),
            target: Some(format!("{mark}:9")),
            ..Self::plain(prefix)
        }
    }
}

/// A route as a daemon has it from our speaker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) as_path: Vec<u32>,
    pub(crate) next_hop: String,
    pub(crate) med: Option<u32>,
    pub(crate) communities: BTreeSet<String>,
    pub(crate) large_communities: BTreeSet<String>,
    /// Route targets.
    pub(crate) targets: BTreeSet<String>,
    pub(crate) originator: Option<String>,
    pub(crate) cluster_list: Vec<String>,
}

/// A running daemon.
pub(crate) trait Foreign: Send {
    /// Whether its session with our speaker is established.
    fn is_up(&self) -> bool;

    /// The routes that it has from our speaker, of these prefixes.
    fn routes(&self, prefixes: &[&str]) -> BTreeMap<String, Seen>;

    /// Announces exactly these, on the session that it has.
    fn announce(&mut self, routes: &[Route]);

    /// Asks our speaker for its routes.
    fn refresh(&self);

    /// Ends the session as its operator would, with a text where it can send one.
    fn shut_down(&self, text: &str);

    /// Ends the process at once, without a word to anybody.
    fn kill(&mut self);

    /// Starts it again after `kill`, as a speaker that kept its forwarding state.
    fn start_again(&mut self, routes: &[Route]);

    /// Stops the process that answers BFD, or lets it go on.
    fn freeze(&self, on: bool);

    /// What it wrote, to look at when a test fails.
    fn log(&self) -> String;

    fn has(&self, prefix: &str) -> bool {
        self.routes(&[prefix]).contains_key(prefix)
    }
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Bird, Self::Frr, Self::GoBgp, Self::ExaBgp];

    pub(crate) fn start<'a>(self, lab: &'a Lab, setup: Setup) -> Box<dyn Foreign + 'a> {
        match self {
            Self::Bird => Box::new(Bird::start(lab, setup)),
            Self::Frr => Box::new(Frr::start(lab, setup)),
            Self::GoBgp => Box::new(GoBgp::start(lab, setup)),
            Self::ExaBgp => Box::new(ExaBgp::start(lab, setup)),
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::Bird => "/usr/sbin/bird",
            Self::Frr => "/usr/lib/frr/bgpd",
            Self::GoBgp => "/usr/bin/gobgpd",
            Self::ExaBgp => "/usr/sbin/exabgp",
        }
    }

    /// Whether it can be tried. Missing daemons are called out past the capture of test output.
    pub(crate) fn is_installed(self) -> bool {
        let is_there = Path::new(self.program()).exists();
        if !is_there {
            let _ = writeln!(
                std::io::stderr(),
                "NOT RUN: tests with {self:?}: {} is not installed (scripts/deps.sh)",
                self.program()
            );
        }
        is_there
    }
}

/// Tries something with several daemons at once, each in a lab of its own, and says with which of them it failed.
pub(crate) fn with_each(kinds: &[Kind], machines: usize, test: impl Fn(&Lab, Kind) + Sync) {
    let failed: Vec<Kind> = std::thread::scope(|scope| {
        let running: Vec<_> = kinds
            .iter()
            .filter(|kind| kind.is_installed())
            .map(|kind| {
                let test = &test;
                let thread = std::thread::Builder::new().name(format!("{kind:?}"));
                let run = move || test(&Lab::new(machines), *kind);
                (*kind, thread.spawn_scoped(scope, run).unwrap())
            })
            .collect();
        running
            .into_iter()
            .filter_map(|(kind, thread)| thread.join().is_err().then_some(kind))
            .collect()
    });
    assert!(failed.is_empty(), "failed with {failed:?}; see above");
}

/// Waits until both sides say that the session is up.
pub(crate) fn wait_up(dut: &super::dut::Dut<'_>, index: usize, peer: &dyn Foreign) {
    let is_up = super::lab::holds_within(40, || dut.is_up(index) && peer.is_up());
    assert!(
        is_up,
        "the session does not come up: {}\n{}\n{}",
        dut.peer(index),
        dut.log(),
        peer.log()
    );
}

/// Waits until a daemon has these of our routes.
pub(crate) fn wait_has(peer: &dyn Foreign, prefixes: &[&str]) {
    let mut seen = BTreeMap::new();
    let is_there = super::lab::holds_within(20, || {
        seen = peer.routes(prefixes);
        prefixes.iter().all(|prefix| seen.contains_key(*prefix))
    });
    assert!(is_there, "wanted {prefixes:?}, has {seen:?}\n{}", peer.log());
}

/// Waits until our speaker has these of a machine's routes, and no other.
pub(crate) fn wait_received(dut: &super::dut::Dut<'_>, index: usize, prefixes: &[&str]) {
    let wanted: BTreeSet<&str> = prefixes.iter().copied().collect();
    eventually(
        &format!("our speaker has exactly {prefixes:?} of p{index}"),
        20,
        || {
            let routes = dut.received(index);
            let usable = routes.iter().filter(|route| route["unusable"].is_null());
            let found: BTreeSet<&str> = usable.filter_map(|route| route["prefix"].as_str()).collect();
            found == wanted
        },
    );
}
