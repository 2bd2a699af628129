//! IPReservation: addresses that automatic assignment leaves alone.

resource! {
    #[kube(
        kind = "IPReservation",
        plural = "ipreservations",
        shortname = "ipr",
        doc = "Addresses that are never assigned automatically."
    )]
    /// Spec of an IPReservation.
    pub struct IPReservationSpec {
        /// CIDRs and addresses, of either family.
        #[serde(rename = "reservedCIDRs")]
        #[schemars(extend("x-kubernetes-list-type" = "set"))]
        pub reserved_cidrs: Vec<String>,
    }
}
