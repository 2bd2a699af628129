//! BGP as a library: wire, sessions, RIBs, policy; pure.
