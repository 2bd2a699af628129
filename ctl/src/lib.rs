//! `caracalctl`: resources, node status and address management from the command line.
//!
//! Owns what calicoctl's users know: verbs, flags, tables, texts and exit codes. Results go to stdout, messages to
//! stderr. It speaks to the Kubernetes API, and for `node status` to the BGP speaker of its node.

pub mod args;
mod bgp;
mod bundle;
mod cluster_diags;
mod columns;
mod connect;
mod datastore;
mod diff;
mod error;
mod form;
mod go_template;
mod health;
mod input;
mod ipam;
mod json_path;
mod judge;
mod node;
mod policy;
mod program;
mod reference;
mod resource;
mod snapshot;
mod speaker;
mod store;
mod table;
mod terminal;
mod trace;
mod version;

pub use connect::Access;
pub use error::Failure;
pub use program::main;
pub use terminal::Terminal;

/// Carries out a command.
///
/// # Errors
/// What the command was refused or failed with; its text is for the user.
pub async fn run(arguments: args::Arguments, terminal: &Terminal, access: &Access) -> Result<(), Failure> {
    use args::{
        BgpCommand, ClusterCommand, Command, DatastoreCommand, IpamCommand, NodeCommand, PolicyCommand,
    };
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
        Command::Node(NodeCommand::Status(status)) => node::status::run(terminal, &status),
        Command::Node(NodeCommand::Checksystem(check)) => node::checksystem::run(terminal, &check),
        Command::Node(NodeCommand::Diags(diags)) => node::diags::run(terminal, &diags),
        Command::Bgp(BgpCommand::Peers(peers)) => bgp::peers(terminal, access, &global, &peers).await,
        Command::Bgp(BgpCommand::Routes(routes)) => bgp::routes(terminal, access, &global, &routes).await,
        Command::Bgp(BgpCommand::Neighbor(neighbor)) => bgp::neighbor(terminal, &neighbor),
        Command::Bgp(BgpCommand::WhyNot(why_not)) => bgp::why_not(terminal, &why_not),
        Command::Bgp(BgpCommand::Plan(plan)) => {
            Box::pin(bgp::plan::run(terminal, access, &global, &plan)).await
        }
        Command::Bgp(BgpCommand::Drain(drain)) => bgp::drain(terminal, &drain),
        Command::Trace(trace) => Box::pin(trace::run(terminal, access, &global, &trace)).await,
        Command::Policy(PolicyCommand::Test(test)) => policy::test::run(terminal, &test),
        Command::Policy(PolicyCommand::Denials(denials)) => policy::denials::run(terminal, &denials),
        Command::Policy(PolicyCommand::Report(report)) => {
            Box::pin(policy::report::run(terminal, access, &global, &report)).await
        }
        Command::Status(status) => {
            let client = access.client(&global).await?;
            Box::pin(health::status(terminal, &client, &status)).await
        }
        Command::Doctor(doctor) => {
            let client = access.client(&global).await?;
            Box::pin(health::doctor(terminal, &client, &doctor)).await
        }
        Command::Ipam(command) => {
            let client = access.client(&global).await?;
            match command {
                IpamCommand::Show(show) => ipam::show::run(terminal, &client, &show).await,
                IpamCommand::Check(check) => Box::pin(ipam::check::run(terminal, &client, &check)).await,
                IpamCommand::Release(release) => ipam::release::run(terminal, &client, &release).await,
                IpamCommand::Split(split) => ipam::split::run(terminal, &client, &split).await,
                IpamCommand::Configure(configure) => {
                    ipam::configure::run(terminal, &client, &configure).await
                }
                IpamCommand::Migrate(migrate) => ipam::migrate::run(terminal, &client, &migrate).await,
            }
        }
        Command::Cluster(ClusterCommand::Diags(diags)) => {
            cluster_diags::run(terminal, &access.client(&global).await?, &global, &diags).await
        }
        Command::Datastore(DatastoreCommand::Migrate(command)) => {
            datastore::run(terminal, &access.client(&global).await?, &command).await
        }
        Command::Completion(completion) => {
            reference::completion(terminal, &completion);
            Ok(())
        }
        Command::Man(man) => reference::man(terminal, &man),
        Command::Reference => {
            terminal.text(&reference::markdown());
            Ok(())
        }
        Command::Version(version) => version::run(terminal, access, &global, &version).await,
    }
}
