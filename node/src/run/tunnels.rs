//! The tunnel addresses, kept as pools, node and configuration ask for them.

use std::time::Duration;

use caracal_api::v3::{FelixConfiguration, IPPool};
use caracal_datastore::{Client, Object, WatchScope};
use futures::stream::{BoxStream, StreamExt as _, select};
use k8s_openapi::api::core::v1::Node;
use tokio::sync::watch;

use super::{Settings, one_line};
use crate::environment::Backend;
use crate::tunnels::Tunnels;

/// Changes that come together are worked on together.
const COLLECT: Duration = Duration::from_millis(500);
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

pub(super) async fn keep(settings: Settings, mut client: watch::Receiver<Option<Client>>) {
    let environment = &settings.environment;
    if environment.backend == Backend::None {
        return;
    }
    let Ok(Some(client)) = client
        .wait_for(Option::is_some)
        .await
        .map(|client| client.clone())
    else {
        return;
    };
    let own = WatchScope {
        fields: Some(format!("metadata.name={}", environment.kubernetes_node)),
        ..WatchScope::default()
    };
    let everything = WatchScope::default;
    let mut changes = select(
        changes::<Node>(&client, own),
        select(
            changes::<IPPool>(&client, everything()),
            changes::<FelixConfiguration>(&client, everything()),
        ),
    );
    let tunnels = Tunnels::new(client.clone(), &environment.node, &environment.kubernetes_node);
    let mut pause = RETRY_MIN;
    loop {
        match Box::pin(tunnels.ensure()).await {
            Ok(_) => {
                pause = RETRY_MIN;
                if changes.next().await.is_none() {
                    return;
                }
                let collected = tokio::time::sleep(COLLECT);
                tokio::pin!(collected);
                while tokio::select! { more = changes.next() => more.is_some(), () = &mut collected => false }
                {
                }
            }
            Err(error) => {
                tracing::warn!(error = %one_line(&error), "tunnel addresses are not as asked for");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY_MAX);
            }
        }
    }
}

/// That something changed, whatever it was: the objects are read again.
fn changes<K: Object>(client: &Client, scope: WatchScope) -> BoxStream<'static, ()> {
    client.watch::<K>(scope).map(drop).boxed()
}
