//! The surface of the calculation: updates in, wanted state out.

use std::collections::BTreeMap;

use caracal_api::v3::FelixConfigurationSpec;

use crate::config::Config;
use crate::desired::{Desired, Dirty};
use crate::update::Update;

/// What the calculation must know from the start.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Name of this node.
    pub node: String,
    /// Parameters given on the node itself, highest precedence first (environment, then file): names as in
    /// `FELIX_<NAME>` without the prefix, in any case.
    pub parameters: Vec<BTreeMap<String, String>>,
}

/// The calculation of one node.
#[derive(Debug)]
pub struct Core {
    options: Options,
    desired: Desired,
    config: Config,
    spec: FelixConfigurationSpec,
    problems: BTreeMap<String, String>,
    is_in_sync: bool,
}

impl Core {
    /// A calculation that knows nothing of the cluster.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            options,
            desired: Desired::default(),
            config: Config::default(),
            spec: FelixConfigurationSpec::default(),
            problems: BTreeMap::new(),
            is_in_sync: false,
        }
    }

    /// Name of this node.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.options.node
    }

    /// Takes in one change. Cheap: what follows from it is worked out by [`flush`](Self::flush).
    pub fn on_update(&mut self, update: Update) {
        drop(update);
    }

    /// All kinds have been listed completely. Before this, [`flush`](Self::flush) gives nothing.
    pub fn on_in_sync(&mut self) {
        self.is_in_sync = true;
    }

    /// True once all kinds have been listed.
    #[must_use]
    pub const fn is_in_sync(&self) -> bool {
        self.is_in_sync
    }

    /// Brings [`desired`](Self::desired) up to date and says what changed in it. Before everything is in sync nothing
    /// changes, so that a half-known cluster is never programmed.
    pub fn flush(&mut self) -> Dirty {
        Dirty::default()
    }

    /// The wanted state as of the last flush.
    #[must_use]
    pub const fn desired(&self) -> &Desired {
        &self.desired
    }

    /// The effective FelixConfiguration of this node, all layers merged, as of the last flush.
    #[must_use]
    pub const fn configuration(&self) -> &FelixConfigurationSpec {
        &self.spec
    }

    /// The parameters of the calculation, as of the last flush.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// What could not be understood, by the object or parameter it concerns. What is listed here is closed.
    #[must_use]
    pub const fn problems(&self) -> &BTreeMap<String, String> {
        &self.problems
    }
}
