//! The addresses of this host's own interfaces: host endpoints that name no interface are found by them.
//!
//! Owns what the calculation was told last. Interfaces of workloads are none of these, and neither is the loopback.

use std::collections::BTreeMap;
use std::net::IpAddr;

use caracal_felix_core::Update;
use caracal_linux::netlink::{Address, Event, Link, Netlink};

/// See the module.
#[derive(Debug)]
pub struct HostInterfaces {
    netlink: Netlink,
    known: BTreeMap<String, Vec<IpAddr>>,
    is_due: bool,
}

impl HostInterfaces {
    /// In the calling thread's namespace; nothing is known yet.
    ///
    /// # Errors
    /// When the kernel cannot be spoken to.
    pub fn open() -> caracal_linux::Result<Self> {
        Ok(Self {
            netlink: Netlink::open()?,
            known: BTreeMap::new(),
            is_due: true,
        })
    }

    /// Takes in a notification; true when interfaces are to be looked at again.
    pub const fn on_event(&mut self, event: &Event) -> bool {
        let concerns = match event {
            Event::LinkGone(_) | Event::Address(_) | Event::AddressGone(_) | Event::Resync => true,
            Event::Link(_) | Event::Route(_) | Event::RouteGone(_) => false,
        };
        self.is_due |= concerns;
        concerns
    }

    /// What the calculation does not know yet. Cheap when nothing was notified.
    pub async fn look(&mut self, prefixes: &[String]) -> Vec<Update> {
        if !self.is_due {
            return Vec::new();
        }
        let listed = async {
            Ok::<_, caracal_linux::Error>((self.netlink.links().await?, self.netlink.addresses().await?))
        };
        match listed.await {
            Ok((links, addresses)) => {
                self.is_due = false;
                let now = interfaces(&links, &addresses, prefixes);
                let updates = difference(&self.known, &now);
                self.known = now;
                updates
            }
            // What is known stays; the next notification or check tries again.
            Err(error) => {
                tracing::warn!(error = %error, "addresses of the host cannot be listed");
                Vec::new()
            }
        }
    }
}

fn interfaces(links: &[Link], addresses: &[Address], prefixes: &[String]) -> BTreeMap<String, Vec<IpAddr>> {
    let mut found: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    for link in links {
        if link.loopback || prefixes.iter().any(|prefix| link.name.starts_with(prefix)) {
            continue;
        }
        let own = addresses.iter().filter(|address| address.index == link.index);
        let mut own: Vec<IpAddr> = own.map(|address| address.address.addr()).collect();
        own.sort();
        if !own.is_empty() {
            found.insert(link.name.clone(), own);
        }
    }
    found
}

fn difference(before: &BTreeMap<String, Vec<IpAddr>>, now: &BTreeMap<String, Vec<IpAddr>>) -> Vec<Update> {
    let gone = before.keys().filter(|name| !now.contains_key(*name));
    let gone = gone.map(|name| Update::HostInterface(name.clone(), None));
    let new = now.iter().filter(|(name, own)| before.get(*name) != Some(*own));
    let new = new.map(|(name, own)| Update::HostInterface(name.clone(), Some(own.clone())));
    gone.chain(new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(entries: &[(&str, &str)]) -> BTreeMap<String, Vec<IpAddr>> {
        let entries = entries.iter();
        entries
            .map(|(name, address)| ((*name).to_owned(), vec![address.parse().unwrap()]))
            .collect()
    }

    #[test]
    fn only_what_changed_is_told() {
        let before = of(&[
            ("eth0", "192.0.2.1"),
            ("eth1", "192.0.2.2"),
            ("eth2", "192.0.2.3"),
        ]);
        let now = of(&[("eth0", "192.0.2.1"), ("eth1", "192.0.2.9")]);
        let told = difference(&before, &now);
        assert_eq!(
            told,
            [
                Update::HostInterface("eth2".to_owned(), None),
                Update::HostInterface("eth1".to_owned(), Some(vec!["192.0.2.9".parse().unwrap()])),
            ]
        );
        assert!(difference(&now, &now).is_empty());
    }
}
