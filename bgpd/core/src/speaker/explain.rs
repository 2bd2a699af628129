//! Why a peer does not get a prefix, or what it gets.

use ipnet::IpNet;

use super::Speaker;
use super::peer::Peer;
use super::status::UnknownPeer;
use crate::rib::entry::Entry;
use crate::snapshot::{Explanation, SessionState};

impl Speaker {
    /// Says whether a peer is told of a prefix, and if not, everything that keeps it from that.
    ///
    /// # Errors
    /// When no peer has the name.
    pub fn why_not(&self, prefix: &IpNet, peer: &str) -> Result<Explanation, UnknownPeer> {
        let unknown = || UnknownPeer(peer.to_owned());
        let found = self.names.get(peer).and_then(|id| self.peers.get(id));
        let found = found.ok_or_else(unknown)?;
        let mut reasons = Vec::new();
        if let Some(reason) = session_fault(found) {
            reasons.push(reason);
        }
        match self.table.lookup(&prefix.trunc()) {
            None => reasons.push(self.unknown(prefix)),
            Some(entry) => reasons.extend(self.route_faults(entry, found)),
        }
        Ok(Explanation {
            advertised: reasons.is_empty(),
            reasons,
        })
    }

    fn unknown(&self, prefix: &IpNet) -> String {
        let within = |entry: &&Entry| prefix.contains(&entry.prefix) && entry.prefix != *prefix;
        let around = |entry: &&Entry| entry.prefix.contains(prefix) && entry.prefix.prefix_len() > 0;
        let name = |entry: &Entry| entry.prefix.to_string();
        let entries = || self.table.entries_from(0).map(|(_, entry)| entry);
        let narrower: Vec<String> = entries().filter(within).take(3).map(name).collect();
        let wider: Vec<String> = entries().filter(around).take(3).map(name).collect();
        let mut text =
            format!("nothing is known of {prefix} here: nobody sent it, and this node does not own it");
        if !wider.is_empty() {
            text.push_str(&format!("; it lies in {}", wider.join(", ")));
        }
        if !narrower.is_empty() {
            text.push_str(&format!("; in it lie {}", narrower.join(", ")));
        }
        text
    }

    fn route_faults(&self, entry: &Entry, peer: &Peer) -> Vec<String> {
        let Some(way) = entry.chosen() else {
            let faults = entry.paths.as_slice().iter().map(|path| {
                let from = path.used.peer().map_or("this node", |peer| peer.name.as_str());
                let unusable = path.used.unusable.map(crate::rib::way::Unusable::text);
                let fault = unusable.unwrap_or("its next hop is not reachable");
                format!("the path from {from} is not used: {fault}")
            });
            return faults.collect();
        };
        let Some(target) = &peer.target else {
            return Vec::new();
        };
        let Some(group) = self.groups.get(&target.group) else {
            return Vec::new();
        };
        let exporter = &group.exporter;
        let is_echo = !exporter.sends_paths_of(&entry.prefix) && target.is_echo(exporter.tag(way.tag()));
        let echo = is_echo.then(|| "its best path came from this very peer".to_owned());
        echo.into_iter()
            .chain(exporter.kept_back(&entry.prefix, way))
            .collect()
    }
}

fn session_fault(peer: &Peer) -> Option<String> {
    let state = peer.session.state();
    if state == SessionState::Established {
        return None;
    }
    let last = peer.session.last_error.as_ref();
    let last = last.map_or_else(String::new, |(_, reason)| format!(": {reason}"));
    Some(format!("the session is not up ({state:?}){last}"))
}
