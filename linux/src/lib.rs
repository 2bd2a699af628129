//! The kernel: links, addresses, routes, neighbours, sets, namespaces, sysctls.
