//! From cluster state to the tables of one node; pure.
