//! IP sets.
//!
//! # Ownership
//! Sets whose names begin with `cali4`, `cali6` or `felix-` are ours; no other set is read or changed.

use std::collections::{BTreeMap, BTreeSet};

use caracal_felix_core::desired::{IpSet, IpSetKind, IpSetMember, IpVersion};
use caracal_linux::Result;
use caracal_linux::ipset::{IpSets, Member, SetHeader, SetSpec, SetType};

const PREFIXES: [&str; 3] = ["cali4", "cali6", "felix-"];

/// Programs IP sets.
#[derive(Debug)]
pub struct Driver {
    sets: IpSets,
}

impl Driver {
    /// A driver of the sets behind a connection.
    pub fn new(sets: IpSets) -> Self {
        Self { sets }
    }

    /// Headers of all sets that are ours, by name. Cheap enough to ask often.
    ///
    /// # Errors
    /// When the listing fails.
    pub fn headers(&mut self) -> Result<BTreeMap<String, SetHeader>> {
        let ours = self
            .sets
            .headers()?
            .into_iter()
            .filter(|header| is_ours(&header.name));
        Ok(ours.map(|header| (header.name.clone(), header)).collect())
    }

    /// Makes a set hold exactly its members, creating it if needed. Returns the number of members written.
    /// Additions go before removals, so that no member that stays is missing for a moment.
    ///
    /// # Errors
    /// When the kernel refuses; the set is then between its old and its new content, and trying again goes on.
    pub fn ensure(&mut self, name: &str, wanted: &IpSet) -> Result<usize> {
        let spec = spec(wanted);
        let header = self
            .sets
            .headers()?
            .into_iter()
            .find(|header| header.name == name);
        match header {
            None => self.sets.create(name, &spec)?,
            Some(header) if !header.matches(&spec) => return self.replace(name, &header, wanted),
            Some(_) => {}
        }
        let present: BTreeSet<Member> = self.sets.members(name)?.into_iter().collect();
        let members: BTreeSet<Member> = wanted.members.iter().map(member).collect();
        let added: Vec<Member> = members.difference(&present).copied().collect();
        let removed: Vec<Member> = present.difference(&members).copied().collect();
        self.change(name, &added, &removed)
    }

    /// Changes the members of a set that is there.
    ///
    /// # Errors
    /// `is_not_found` when somebody destroyed the set; otherwise as the kernel refuses.
    pub fn change(&mut self, name: &str, added: &[Member], removed: &[Member]) -> Result<usize> {
        self.sets.add(name, added)?;
        self.sets.delete(name, removed)?;
        Ok(added.len() + removed.len())
    }

    /// A set of another kind is in the way. One of the same type is exchanged under the rules that use it; one of
    /// another type cannot be, so it goes first, which the kernel refuses while a rule uses it.
    fn replace(&mut self, name: &str, present: &SetHeader, wanted: &IpSet) -> Result<usize> {
        let spec = spec(wanted);
        let members: Vec<Member> = wanted.members.iter().map(member).collect();
        if present.type_name != spec.set_type.name() || present.v6 != spec.v6 {
            self.sets.destroy(name)?;
            self.sets.create(name, &spec)?;
            self.sets.add(name, &members)?;
            return Ok(members.len());
        }
        let temporary = temporary_name(spec.v6);
        match self.sets.destroy(&temporary) {
            Err(error) if !error.is_not_found() => return Err(error),
            Ok(()) | Err(_) => {}
        }
        self.sets.create(&temporary, &spec)?;
        self.sets.add(&temporary, &members)?;
        self.sets.swap(name, &temporary)?;
        self.sets.destroy(&temporary)?;
        Ok(members.len())
    }

    /// Destroys a set of ours. An absent one is success.
    ///
    /// # Errors
    /// `is_busy` while a rule uses it.
    pub fn destroy(&mut self, name: &str) -> Result<()> {
        debug_assert!(is_ours(name));
        match self.sets.destroy(name) {
            Err(error) if error.is_not_found() => Ok(()),
            result => result,
        }
    }
}

/// A set of ours by its name.
pub fn is_ours(name: &str) -> bool {
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// `t` in place of the `0` of permanent sets.
fn temporary_name(v6: bool) -> String {
    format!("cali{}t0", if v6 { 6 } else { 4 })
}

fn spec(wanted: &IpSet) -> SetSpec {
    SetSpec {
        set_type: match wanted.kind {
            IpSetKind::HashIp => SetType::HashIp,
            IpSetKind::HashNet => SetType::HashNet,
            IpSetKind::HashIpPort => SetType::HashIpPort,
            IpSetKind::HashNetPort => SetType::HashNetPort,
        },
        v6: wanted.version == IpVersion::V6,
        max_elements: wanted.max_members,
    }
}

/// A wanted member as the kernel has it.
pub fn member(wanted: &IpSetMember) -> Member {
    match *wanted {
        IpSetMember::Ip(address) => Member::Ip(address),
        IpSetMember::Net(net) => Member::Net(net.trunc()),
        IpSetMember::IpPort {
            address,
            protocol,
            port,
        } => Member::IpPort(address, protocol, port),
        IpSetMember::NetPort { net, protocol, port } => Member::NetPort(net.trunc(), protocol, port),
    }
}
