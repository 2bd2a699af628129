//! The daemons: how each is configured, started, asked and told.

pub(crate) mod bird;
pub(crate) mod exabgp;
pub(crate) mod frr;
pub(crate) mod gobgp;

use super::foreign::Route;

/// AS numbers of a text such as `65001 4200000001`.
fn as_path(text: &str) -> Vec<u32> {
    text.split_whitespace()
        .filter_map(|number| number.parse().ok())
        .collect()
}

/// The two halves of `AS:VALUE`, or three parts of a large community.
fn parts(community: &str) -> Vec<&str> {
    community.split(':').collect()
}

fn is_v6(route: &Route) -> bool {
    route.prefix.contains("::")
}
