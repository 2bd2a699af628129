//! The CNI plugin `calico-ipam`.

use std::process::ExitCode;

fn main() -> ExitCode {
    caracal_cni::skel::main(&caracal_cni::ipam_plugin::CalicoIpam)
}
