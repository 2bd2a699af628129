//! The room of the load balancer controller: addresses for Services of type LoadBalancer.
//!
//! Not there yet. Its settings (`controllers.loadBalancer.assignIPs`) are read and shown in the status; no Service gets
//! an address from here. Source: Calico's `kube-controllers/pkg/controllers/loadbalancer`.
