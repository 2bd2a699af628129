//! The KubeControllersConfiguration: made where it is missing, its status says what is run with.
//!
//! # Ownership
//! The status. The spec is the user's once the object exists.

use caracal_api::v3::{KubeControllersConfiguration, KubeControllersConfigurationStatus};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use crate::cluster::Kind;
use crate::context::{Again, Context, Controller};
use crate::lease::Error;
use crate::settings::default_spec;

const NAME: &str = "default";

/// What is to be done for the KubeControllersConfiguration.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make it.
    Create(Box<KubeControllersConfiguration>),
    /// Write its status.
    SetStatus(Value),
}

/// What is to be done for the KubeControllersConfiguration.
#[must_use]
pub fn plan(
    stored: Option<&KubeControllersConfiguration>,
    wanted: &KubeControllersConfigurationStatus,
) -> Option<Action> {
    let Some(stored) = stored else {
        let object = KubeControllersConfiguration::new(NAME, default_spec());
        return Some(Action::Create(Box::new(object)));
    };
    if stored.status.as_ref() == Some(wanted) {
        return None;
    }
    let existing = serde_json::to_value(&stored.status).unwrap_or_default();
    let mut patch = serde_json::to_value(wanted).unwrap_or_default();
    take_away(&existing, &mut patch);
    Some(Action::SetStatus(patch))
}

/// Adds a `null` for everything that a merge patch would otherwise leave in place.
fn take_away(existing: &Value, patch: &mut Value) {
    let (Value::Object(existing), Value::Object(patch)) = (existing, patch) else {
        return;
    };
    for (key, value) in existing {
        match patch.get_mut(key) {
            Some(wanted) => take_away(value, wanted),
            None => {
                patch.insert(key.clone(), Value::Null);
            }
        }
    }
}

/// The controller.
#[derive(Debug, Default)]
pub struct Configuration;

impl Controller for Configuration {
    fn name(&self) -> &'static str {
        "configuration"
    }

    fn wakes(&self, kind: Kind) -> bool {
        kind == Kind::Configuration
    }

    fn run<'a>(&'a mut self, context: &'a Context<'a>) -> BoxFuture<'a, Result<Again, Error>> {
        async move {
            let stored = context.cluster.configuration.as_ref();
            match plan(stored, &context.effective.status) {
                None => {}
                Some(Action::Create(object)) => {
                    match context.fence.write(context.client.create(&*object)).await {
                        Ok(_) => {}
                        Err(Error::Datastore(error)) if error.is_already_exists() => {}
                        Err(error) => return Err(error),
                    }
                }
                Some(Action::SetStatus(status)) => {
                    let version = stored.and_then(|stored| stored.metadata.resource_version.as_deref());
                    let patch = json!(status);
                    context
                        .patch_status::<KubeControllersConfiguration>(NAME, version, patch)
                        .await?;
                }
            }
            Ok(None)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::effective;
    use std::collections::BTreeMap;

    #[test]
    fn the_status_follows_and_what_no_longer_holds_is_taken_away() {
        let environment: BTreeMap<String, String> = [("LOG_LEVEL".to_owned(), "debug".to_owned())].into();
        let first = effective(None, &environment).status;
        assert!(matches!(plan(None, &first), Some(Action::Create(_))));
        let mut stored = KubeControllersConfiguration::new(NAME, default_spec());
        assert!(matches!(plan(Some(&stored), &first), Some(Action::SetStatus(_))));
        stored.status = Some(first.clone());
        assert_eq!(plan(Some(&stored), &first), None);
        let second = effective(None, &BTreeMap::new()).status;
        let Some(Action::SetStatus(patch)) = plan(Some(&stored), &second) else {
            panic!()
        };
        assert_eq!(patch["environmentVars"], Value::Null);
        assert_eq!(patch["runningConfig"]["logSeverityScreen"], "Info");
    }
}
