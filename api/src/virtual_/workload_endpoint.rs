//! Workload endpoints: what policy and routing see of a Pod.
