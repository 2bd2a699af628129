//! `datastore migrate`: the lock under which nothing assigns addresses or changes the dataplane, and moving objects.

mod archive;
mod export;
mod import;

use caracal_api::v3::ClusterInformation;
use caracal_datastore::{Client, init};

use crate::args::MigrateCommand;
use crate::error::Failure;
use crate::terminal::Terminal;

/// Attempts against others who change the object at the same time.
const ATTEMPTS: usize = 10;

/// Carries out `datastore migrate …`.
pub(crate) async fn run(
    terminal: &Terminal,
    client: &Client,
    command: &MigrateCommand,
) -> Result<(), Failure> {
    match command {
        MigrateCommand::Export => export::run(terminal, client).await?,
        MigrateCommand::Import(import) => import::run(terminal, client, import).await?,
        MigrateCommand::Lock => {
            init::ensure_defaults(client).await?;
            set_ready(client, false).await?;
            terminal.line("Datastore locked.");
        }
        MigrateCommand::Unlock => {
            set_ready(client, true).await?;
            terminal.line("Datastore unlocked.");
        }
    }
    Ok(())
}

/// True while the datastore is locked.
pub(crate) async fn is_locked(client: &Client) -> Result<bool, Failure> {
    let information: Option<ClusterInformation> = client.get(None, init::CLUSTER_INFORMATION).await?;
    Ok(information.is_some_and(|information| information.spec.datastore_ready == Some(false)))
}

async fn set_ready(client: &Client, ready: bool) -> Result<(), Failure> {
    let mut attempt = 1;
    loop {
        let stored: Option<ClusterInformation> = client.get(None, init::CLUSTER_INFORMATION).await?;
        let mut information = stored.ok_or_else(|| {
            Failure::new(
                "the cluster has no ClusterInformation named default; start a node or the controllers first, which make it",
            )
        })?;
        if information.spec.datastore_ready == Some(ready) {
            return Ok(());
        }
        information.spec.datastore_ready = Some(ready);
        match client.update(&information).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_conflict() && attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(error.into()),
        }
    }
}
