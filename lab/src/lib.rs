//! A data centre on one machine: nodes, fabric, top-of-rack and pods as network namespaces.
