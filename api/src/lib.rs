//! The resource model: kinds, defaults, validation, selectors, names and conversions.
