//! The CNI plugins' kubeconfig, kept fresh: they work without felix too, and then with a token that must be valid.

use std::time::Duration;

use caracal_datastore::Client;
use tokio::sync::watch;

use super::{Settings, one_line};
use crate::install;

/// Least time between two requests for a token.
const PAUSE_MIN: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_secs(30);

pub(super) async fn keep_fresh(settings: Settings, mut client: watch::Receiver<Option<Client>>) {
    let environment = &settings.environment;
    if !environment.manage_cni || !settings.places.net_dir.is_dir() {
        tracing::debug!("the CNI plugins' kubeconfig is left to others");
        return;
    }
    let Ok(client) = client
        .wait_for(Option::is_some)
        .await
        .map(|client| (*client).clone())
    else {
        return;
    };
    let Some(client) = client else {
        return;
    };
    let mut said = String::new();
    loop {
        let written = install::credentials(
            &client,
            &settings.places,
            &settings.variables,
            &environment.cni_account,
        )
        .await;
        let pause = match written {
            Ok(token) => {
                said.clear();
                next(token.validity, environment.cni_token_refresh)
            }
            // No account is mounted: this is no pod, and the kubeconfig somebody else's.
            Err(error @ install::Error::Account { .. }) => {
                tracing::warn!(error = %one_line(&error), "the CNI plugins' kubeconfig is left as it is");
                return;
            }
            Err(error) => {
                let text = one_line(&error);
                if text != said {
                    tracing::error!(error = %text, "the CNI plugins' kubeconfig is not fresh; they work through felix only");
                    said = text;
                }
                RETRY
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// A quarter of the token's life, or what is set, but never all the time.
fn next(validity: Duration, set: Option<Duration>) -> Duration {
    set.unwrap_or(validity / 4).max(PAUSE_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_long_before_its_end() {
        let day = Duration::from_secs(86_400);
        assert_eq!(next(day, None), Duration::from_secs(21_600));
        assert_eq!(next(day, Some(Duration::from_secs(60))), Duration::from_secs(60));
        assert_eq!(next(Duration::ZERO, None), PAUSE_MIN);
    }
}
