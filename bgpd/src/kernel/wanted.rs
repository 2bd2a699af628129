//! What the speaker wants of the kernel, and under which metric each of it was handed on: one small entry a prefix.

use std::collections::HashMap;
use std::sync::Arc;

use caracal_bgpd_core::output::KernelRoute;
use ipnet::IpNet;

/// An entry. One without either is not kept.
#[derive(Debug, Default)]
struct Slot {
    /// The route of the speaker; routes that lead the same way share it.
    route: Option<Arc<KernelRoute>>,
    /// The metric of the route that the reconciler has for the prefix.
    metric: Option<u32>,
}

/// All entries.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    slots: HashMap<IpNet, Slot>,
    /// Slots with a route.
    routes: usize,
    /// Slots with a metric.
    placed: usize,
}

impl Wanted {
    /// Number of routes that the speaker wants.
    pub(super) fn len(&self) -> usize {
        self.routes
    }

    /// Number of prefixes that the reconciler has a route for.
    pub(super) fn placed(&self) -> usize {
        self.placed
    }

    /// All prefixes.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = IpNet> {
        self.slots.keys().copied()
    }

    /// The route that the speaker wants for a prefix.
    pub(super) fn route(&self, prefix: &IpNet) -> Option<&KernelRoute> {
        self.slots.get(prefix)?.route.as_deref()
    }

    /// Notes what the speaker wants.
    pub(super) fn want(&mut self, prefix: IpNet, route: Option<Arc<KernelRoute>>) {
        if route.is_none() && !self.slots.contains_key(&prefix) {
            return;
        }
        let slot = self.slots.entry(prefix).or_default();
        self.routes += usize::from(route.is_some());
        self.routes -= usize::from(slot.route.is_some());
        slot.route = route;
        self.tidy(&prefix);
    }

    /// Notes the metric of what was handed on, and returns the one of before.
    pub(super) fn place(&mut self, prefix: IpNet, metric: Option<u32>) -> Option<u32> {
        if metric.is_none() && !self.slots.contains_key(&prefix) {
            return None;
        }
        let slot = self.slots.entry(prefix).or_default();
        let before = std::mem::replace(&mut slot.metric, metric);
        self.placed += usize::from(metric.is_some());
        self.placed -= usize::from(before.is_some());
        self.tidy(&prefix);
        before
    }

    /// Drops an entry that says nothing, and the room of many that are gone.
    fn tidy(&mut self, prefix: &IpNet) {
        let is_empty = |slot: &Slot| slot.route.is_none() && slot.metric.is_none();
        if self.slots.get(prefix).is_some_and(is_empty) {
            self.slots.remove(prefix);
            if self.slots.len() < self.slots.capacity() / 8 {
                self.slots.shrink_to(self.slots.len() * 2);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use caracal_bgpd_core::output::Target;

    #[test]
    fn an_entry_lasts_while_it_says_something() {
        let mut wanted = Wanted::default();
        let net: IpNet = "10.0.0.0/24".parse().unwrap();
        let route = Arc::new(KernelRoute {
            target: Target::Blackhole,
            metric: None,
        });
        wanted.want(net, None);
        assert_eq!(wanted.place(net, None), None);
        assert_eq!(wanted.slots.len(), 0);
        wanted.want(net, Some(Arc::clone(&route)));
        assert_eq!(wanted.place(net, Some(7)), None);
        wanted.want(net, Some(route));
        assert_eq!((wanted.len(), wanted.placed()), (1, 1));
        wanted.want(net, None);
        assert_eq!(
            (wanted.len(), wanted.placed(), wanted.prefixes().count()),
            (0, 1, 1)
        );
        assert_eq!(wanted.place(net, None), Some(7));
        assert_eq!((wanted.placed(), wanted.slots.len()), (0, 0));
    }

    // 100,000 routes are in one table of these.
    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<(IpNet, Slot)>() <= 40);
    }
}
