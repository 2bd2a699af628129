//! `caracalctl`: resources, node status and address management from the command line.
//!
//! Owns what calicoctl's users know: verbs, flags, tables, texts and exit codes. Results go to stdout, messages to
//! stderr. It speaks to the Kubernetes API, and for `node status` to the BGP speaker of its node.

pub mod args;
mod columns;
mod connect;
mod diff;
mod error;
mod go_template;
mod input;
mod ipam;
mod json_path;
mod judge;
mod node_status;
mod resource;
mod store;
mod table;
mod terminal;

pub use connect::Access;
pub use error::Failure;
pub use terminal::Terminal;

/// Carries out a command.
///
/// # Errors
/// What the command was refused or failed with; its text is for the user.
pub async fn run(arguments: args::Arguments, terminal: &Terminal, access: &Access) -> Result<(), Failure> {
    use args::{Command, IpamCommand, NodeCommand};
    let global = arguments.global;
    let store = async || access.store(&global).await;
    match arguments.command {
        Command::Get(get) => resource::get::run(terminal, &store().await?, &get).await,
        Command::Create(create) => resource::write::create(terminal, &store().await?, &create).await,
        Command::Apply(apply) => resource::write::apply(terminal, &store().await?, &apply).await,
        Command::Replace(replace) => resource::write::replace(terminal, &store().await?, &replace).await,
        Command::Delete(delete) => resource::delete::run(terminal, &store().await?, &delete).await,
        Command::Patch(patch) => resource::patch::run(terminal, &store().await?, &patch).await,
        Command::Label(label) => resource::label::run(terminal, &store().await?, &label).await,
        Command::Validate(validate) => resource::validate::run(terminal, &validate),
        Command::Convert(convert) => resource::convert::run(terminal, &convert),
        Command::Node(NodeCommand::Status(status)) => node_status::run(terminal, &status),
        Command::Ipam(IpamCommand::Show(show)) => {
            ipam::show(terminal, &access.client(&global).await?, &show).await
        }
        Command::Version => {
            terminal.line(&format!("Client Version:    {}", env!("CARGO_PKG_VERSION")));
            Ok(())
        }
    }
}
