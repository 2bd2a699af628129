//! `caracalctl`: resources, node status and address management from the command line.
//!
//! Owns what calicoctl's users know: verbs, flags, tables, texts and exit codes. Results go to stdout, messages to
//! stderr. It speaks to the Kubernetes API, and for `node status` to the BGP speaker of its node.

pub mod args;
mod columns;
mod connect;
mod error;
mod input;
mod ipam;
mod node_status;
mod output;
mod resource;
mod store;
mod table;

pub use error::Failure;

/// Carries out a command.
///
/// # Errors
/// What the command was refused or failed with; its text is for the user.
pub async fn run(arguments: args::Arguments) -> Result<(), Failure> {
    use args::{Command, IpamCommand, NodeCommand};
    let global = arguments.global;
    match arguments.command {
        Command::Get(get) => resource::get::run(&connect::store(&global).await?, &get).await,
        Command::Create(crud) => resource::write::create(&connect::store(&global).await?, &crud).await,
        Command::Apply(crud) => resource::write::apply(&connect::store(&global).await?, &crud).await,
        Command::Replace(crud) => resource::write::replace(&connect::store(&global).await?, &crud).await,
        Command::Delete(delete) => resource::delete::run(&connect::store(&global).await?, &delete).await,
        Command::Node(NodeCommand::Status(status)) => node_status::run(&status),
        Command::Ipam(IpamCommand::Show(show)) => ipam::show(&connect::client(&global).await?, &show).await,
        Command::Version => {
            output::line(&format!("Client Version:    {}", env!("CARGO_PKG_VERSION")));
            Ok(())
        }
    }
}
