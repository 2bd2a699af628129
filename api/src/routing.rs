//! Who programs the routes to other nodes' blocks, and how packets get there.
//!
//! The node agent and the BGP speaker both ask here, so that each route has exactly one owner.

use crate::v3::{EncapsulationMode, IPPoolSpec, ProgramClusterRoutes};

/// How a pool's traffic between nodes is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PoolClass {
    /// As it is.
    NoEncapsulation,
    /// In IP-in-IP, always or between subnets.
    Ipip,
    /// In VXLAN, always or between subnets.
    Vxlan,
}

/// Who programs a route into the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteOwner {
    /// The node agent.
    Felix,
    /// The BGP speaker.
    Bgp,
    /// Nobody: both were told not to.
    Nobody,
}

/// What a packet to another node is put into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Encapsulation {
    /// Nothing.
    None,
    /// IP-in-IP.
    Ipip,
    /// VXLAN.
    Vxlan,
}

/// The class of a pool. VXLAN counts when both modes are set, which validation refuses.
#[must_use]
pub fn pool_class(pool: &IPPoolSpec) -> PoolClass {
    let is_on =
        |mode: EncapsulationMode| matches!(mode, EncapsulationMode::Always | EncapsulationMode::CrossSubnet);
    if is_on(pool.effective_vxlan_mode()) {
        PoolClass::Vxlan
    } else if is_on(pool.effective_ipip_mode()) {
        PoolClass::Ipip
    } else {
        PoolClass::NoEncapsulation
    }
}

/// What a packet to a node gets when its destination is in the pool.
#[must_use]
pub fn encapsulation(pool: &IPPoolSpec, is_same_subnet: bool) -> Encapsulation {
    let is_used = |mode: EncapsulationMode| mode == EncapsulationMode::Always || !is_same_subnet;
    match pool_class(pool) {
        PoolClass::Vxlan if is_used(pool.effective_vxlan_mode()) => Encapsulation::Vxlan,
        PoolClass::Ipip if is_used(pool.effective_ipip_mode()) => Encapsulation::Ipip,
        PoolClass::Vxlan | PoolClass::Ipip | PoolClass::NoEncapsulation => Encapsulation::None,
    }
}

/// Who programs the routes to other nodes' blocks of a class of pools, given `programClusterRoutes` of the
/// FelixConfiguration and of the BGPConfiguration. Absent and unknown settings mean the defaults: IP-in-IP belongs to
/// the agent, no encapsulation to BGP. VXLAN always belongs to the agent. Where both claim a class, the one that was
/// told to has it; if neither or both were, its default owner.
#[must_use]
pub fn cluster_route_owner(
    class: PoolClass,
    felix: Option<&ProgramClusterRoutes>,
    bgp: Option<&ProgramClusterRoutes>,
) -> RouteOwner {
    let default_owner = match class {
        PoolClass::Vxlan => return RouteOwner::Felix,
        PoolClass::Ipip => RouteOwner::Felix,
        PoolClass::NoEncapsulation => RouteOwner::Bgp,
    };
    let felix = felix.filter(|setting| setting.is_known());
    let bgp = bgp.filter(|setting| setting.is_known());
    let felix_claims = claims(felix.unwrap_or(&ProgramClusterRoutes::EnabledIPIPOnly), class);
    let bgp_claims = claims(bgp.unwrap_or(&ProgramClusterRoutes::EnabledNoEncapOnly), class);
    match (felix_claims, bgp_claims) {
        (true, false) => RouteOwner::Felix,
        (false, true) => RouteOwner::Bgp,
        (false, false) => RouteOwner::Nobody,
        (true, true) => match (felix, bgp) {
            (Some(_), None) => RouteOwner::Felix,
            (None, Some(_)) => RouteOwner::Bgp,
            (None, None) | (Some(_), Some(_)) => default_owner,
        },
    }
}

fn claims(setting: &ProgramClusterRoutes, class: PoolClass) -> bool {
    match setting {
        ProgramClusterRoutes::Enabled => true,
        ProgramClusterRoutes::EnabledIPIPOnly => class == PoolClass::Ipip,
        ProgramClusterRoutes::EnabledNoEncapOnly => class == PoolClass::NoEncapsulation,
        ProgramClusterRoutes::Disabled | ProgramClusterRoutes::Other(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ProgramClusterRoutes::{Disabled, Enabled, EnabledIPIPOnly, EnabledNoEncapOnly, Other};

    #[test]
    fn each_class_has_one_owner() {
        let unknown = Other("Perhaps".to_owned());
        for (felix, bgp, ipip, plain) in [
            (None, None, RouteOwner::Felix, RouteOwner::Bgp),
            (Some(&unknown), Some(&unknown), RouteOwner::Felix, RouteOwner::Bgp),
            (Some(&Disabled), Some(&Enabled), RouteOwner::Bgp, RouteOwner::Bgp),
            (
                Some(&Enabled),
                Some(&Disabled),
                RouteOwner::Felix,
                RouteOwner::Felix,
            ),
            (Some(&Enabled), None, RouteOwner::Felix, RouteOwner::Felix),
            (None, Some(&Enabled), RouteOwner::Bgp, RouteOwner::Bgp),
            (Some(&Enabled), Some(&Enabled), RouteOwner::Felix, RouteOwner::Bgp),
            (
                Some(&Disabled),
                Some(&Disabled),
                RouteOwner::Nobody,
                RouteOwner::Nobody,
            ),
            (
                Some(&EnabledNoEncapOnly),
                Some(&EnabledIPIPOnly),
                RouteOwner::Bgp,
                RouteOwner::Felix,
            ),
        ] {
            assert_eq!(
                cluster_route_owner(PoolClass::Ipip, felix, bgp),
                ipip,
                "{felix:?} {bgp:?}"
            );
            assert_eq!(
                cluster_route_owner(PoolClass::NoEncapsulation, felix, bgp),
                plain,
                "{felix:?} {bgp:?}"
            );
            assert_eq!(
                cluster_route_owner(PoolClass::Vxlan, felix, bgp),
                RouteOwner::Felix
            );
        }
    }

    #[test]
    fn cross_subnet_encapsulates_between_subnets_only() {
        let pool = IPPoolSpec {
            ipip_mode: Some(EncapsulationMode::CrossSubnet),
            ..IPPoolSpec::default()
        };
        assert_eq!(encapsulation(&pool, true), Encapsulation::None);
        assert_eq!(encapsulation(&pool, false), Encapsulation::Ipip);
    }
}
