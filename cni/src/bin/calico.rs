//! The CNI plugin `calico`.

use std::process::ExitCode;

fn main() -> ExitCode {
    caracal_cni::skel::main(&caracal_cni::plugin::Calico::default())
}
