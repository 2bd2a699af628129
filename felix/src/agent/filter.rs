//! What packets are filtered with: chosen before a calculation, followed after it.

use caracal_api::v3::FelixConfigurationSpec;
use caracal_felix_core::Core;
use caracal_felix_core::desired::Backend;

use super::{Agent, Error};
use crate::dataplane::Dataplane;
use crate::exec::CommandRunner;
use crate::features::{FilterKind, Programs, Refusal, choose_backend, find_programs, has_ipv6};

impl<R: CommandRunner> Agent<R> {
    /// What kube-proxy filters with may change at any time; nobody tells.
    pub(super) fn follow_kube_proxy(&mut self) {
        if self.dataplane.is_none() {
            return;
        }
        match choose_backend(self.core.configuration().nftables_mode.as_deref()) {
            Ok(backend) if backend != self.backend => {
                self.set_backend(backend);
                self.note_change();
            }
            // A mode that cannot be had is said when the configuration is taken in.
            Ok(_) | Err(_) => {}
        }
    }

    fn set_backend(&mut self, backend: Backend) {
        tracing::info!(?backend, "packets are filtered with");
        self.backend = backend;
        self.is_backend_new = true;
        self.core.set_backend(backend);
    }

    /// Chooses what the next calculation is for.
    ///
    /// # Errors
    /// When the configuration wants what this machine has not, and nothing is programmed yet.
    pub(super) fn choose_filter(&mut self) -> Result<(), Refusal> {
        let Some(spec) = self.core.upcoming_configuration() else {
            return Ok(());
        };
        match choose_backend(spec.nftables_mode.as_deref()) {
            Ok(backend) if backend != self.backend => self.set_backend(backend),
            Ok(_) => {}
            // What works goes on working.
            Err(refusal) if self.dataplane.is_some() => {
                tracing::error!(error = %refusal, "packets are filtered as before");
            }
            Err(refusal) => return Err(refusal),
        }
        Ok(())
    }

    /// Follows the configuration: table programs and ports.
    pub(super) async fn configure(&mut self) -> Result<(), Error> {
        self.denials.set(self.core.config().is_denial_logged);
        let spec = self.core.configuration();
        if let Err(error) = self.servers.ensure(spec).await {
            tracing::error!(error = %error, "port not opened");
        }
        let programs_for = format!(
            "{:?} {:?} {:?}",
            self.backend,
            spec.iptables_backend,
            self.core.config().ipv6_support
        );
        if self.programs_for.as_ref() == Some(&programs_for) {
            return Ok(());
        }
        match &mut self.dataplane {
            Some(dataplane) => {
                let kind = filter_kind(dataplane.runner(), self.backend, &self.core).await?;
                dataplane.set_filter(kind, self.core.desired())?;
            }
            none => {
                let Some(runner) = self.runner.take() else {
                    return Ok(());
                };
                let kind = filter_kind(&runner, self.backend, &self.core).await?;
                let metrics = self.metrics.clone();
                *none = Some(Dataplane::new(runner, kind, &self.core, metrics)?);
            }
        }
        self.programs_for = Some(programs_for);
        self.is_backend_new = false;
        Ok(())
    }
}

/// Refuses now, rather than after a long wait for the API server, what cannot work whatever that says.
pub(super) async fn refuse_early(
    runner: &impl CommandRunner,
    local: &FelixConfigurationSpec,
) -> Result<(), Refusal> {
    let backend = choose_backend(local.nftables_mode.as_deref())?;
    if backend == Backend::Nftables {
        return Ok(());
    }
    match find_programs(runner, local.iptables_backend.as_deref(), false).await {
        // The cluster's configuration may want nftables.
        Err(Refusal::NoPrograms(_)) if choose_backend(Some("Enabled")).is_ok() => Ok(()),
        result => result.map(drop),
    }
}

async fn filter_kind(
    runner: &impl CommandRunner,
    backend: Backend,
    core: &Core,
) -> Result<FilterKind, Refusal> {
    let wants_v6 = core.config().ipv6_support;
    match backend {
        Backend::Nftables => Ok(FilterKind::Nftables {
            has_v6: wants_v6 && has_ipv6(),
        }),
        Backend::Iptables => Ok(FilterKind::Iptables(programs(runner, core).await?)),
    }
}

async fn programs(runner: &impl CommandRunner, core: &Core) -> Result<Programs, Refusal> {
    let backend = core.configuration().iptables_backend.as_deref();
    let programs = find_programs(runner, backend, core.config().ipv6_support).await?;
    tracing::info!(
        variant = ?programs.variant,
        ipv4 = programs.v4.restore,
        ipv6 = programs.v6.as_ref().map(|commands| commands.restore.as_str()),
        "table programs"
    );
    Ok(programs)
}
