//! The node agent: drives the kernel to what felix-core wants.
