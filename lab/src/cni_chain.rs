//! Runs the node's CNI chain as a container runtime does.
