//! Typed access to the Kubernetes API.
