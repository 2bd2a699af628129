//! What every long-running program has: logging, metrics, health, signals.
