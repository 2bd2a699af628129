//! The BGP daemon: sockets, watches and the kernel around bgpd-core.
