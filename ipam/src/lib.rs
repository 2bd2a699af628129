//! Blocks, affinities, handles: the address allocator.
