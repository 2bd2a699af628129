//! Kernel routes, each kept once: a table of many prefixes has few of them.

use hashbrown::HashMap;

use crate::output::KernelRoute;

/// The number of a kernel route; `NONE` is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KernelRouteId(u32);

/// All kernel routes there were since the table was empty.
#[derive(Debug, Default)]
pub(crate) struct KernelRoutes {
    numbers: HashMap<KernelRoute, KernelRouteId>,
}

impl KernelRoutes {
    /// Returns the number of a route; equal routes have equal numbers.
    pub(crate) fn number(&mut self, route: Option<&KernelRoute>) -> KernelRouteId {
        let Some(route) = route else {
            return KernelRouteId::default();
        };
        if let Some(known) = self.numbers.get(route) {
            return *known;
        }
        let next = u32::try_from(self.numbers.len() + 1).unwrap_or(u32::MAX);
        self.numbers.insert(route.clone(), KernelRouteId(next));
        KernelRouteId(next)
    }

    /// Forgets all numbers. None of them is in use.
    pub(crate) fn clear(&mut self) {
        self.numbers.clear();
    }
}
