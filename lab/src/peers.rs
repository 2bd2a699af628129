//! The routers a lab can have at the top of its rack, one module for each implementation.

pub mod bird;
