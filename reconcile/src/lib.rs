//! Desired state, observed state, and the difference between them.
