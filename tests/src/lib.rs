//! Suites that need more than one package: network namespaces, interop, scenarios.
