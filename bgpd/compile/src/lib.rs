//! From resources to a BGP configuration; pure.
