//! Carrying out what findings propose.
//!
//! Everything is looked at once more before anything is done; each fix then reads the objects that it is about, and
//! writes them only in the state that it read. What no longer holds is left alone.

use std::net::IpAddr;

use caracal_api::v3::{BlockAffinity, IPAMBlock, IPAMHandle, IPPoolAllowedUse};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use serde::{Deserialize, Serialize};

use super::check;
use super::claimant::Claimant;
use super::finding::{Finding, Fix};
use super::index::Index;
use super::repair::{problems, repaired};
use super::snapshot::Snapshot;
use super::users::pod_addresses;
use crate::attempts::Attempts;
use crate::block::{Block, Owner, Release};
use crate::claim::Conditions;
use crate::client::{AssignIp, Ipam};
use crate::clock;
use crate::error::{Error, Result};
use crate::store::repeated;

/// What became of a fix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "camelCase")]
pub enum Outcome {
    /// It was carried out.
    Done,
    /// The finding did not hold any more.
    Gone,
    /// The finding has no fix: a person must decide.
    ByHand,
    /// It could not be carried out.
    Failed {
        /// Why.
        problem: String,
    },
}

impl Ipam {
    /// Carries out the fixes of findings; returns what became of each, by the finding's id. One that fails does not
    /// keep the others from being tried.
    ///
    /// A repaired block or a released address may show the next thing that is wrong: check again afterwards.
    ///
    /// # Errors
    ///
    /// When the state cannot be read.
    pub async fn fix(&self, findings: &[Finding]) -> Result<Vec<(String, Outcome)>> {
        let current = check(&Snapshot::load(&self.store.client).await?);
        let mut ordered: Vec<&Finding> = findings.iter().collect();
        ordered.sort_by_key(|finding| finding.fix.as_ref().map(rank));
        let mut outcomes = Vec::new();
        for finding in ordered {
            let outcome = match &finding.fix {
                None => Outcome::ByHand,
                Some(fix) if !current.findings.iter().any(|now| now.fix.as_ref() == Some(fix)) => {
                    Outcome::Gone
                }
                Some(fix) => match self.apply(fix).await {
                    Ok(true) => Outcome::Done,
                    Ok(false) => Outcome::Gone,
                    Err(error) => Outcome::Failed {
                        problem: error.to_string(),
                    },
                },
            };
            outcomes.push((finding.id(), outcome));
        }
        Ok(outcomes)
    }

    /// True when it was done, false when there was nothing to do any more.
    async fn apply(&self, fix: &Fix) -> Result<bool> {
        match fix {
            Fix::RepairBlock { block } => self.repair(block).await,
            Fix::FinishDeletion { kind, name } => self.finish(kind, name).await,
            Fix::LabelAffinity { host, block } => match self.store.affinity(host, block).await? {
                Some(affinity) => self.label(host, affinity).await,
                None => Ok(false),
            },
            Fix::CorrectNode {
                address,
                node,
                sequence_number,
            } => self.correct_node(*address, node, *sequence_number).await,
            Fix::AllocateAddress {
                address,
                node,
                namespace,
                pod,
            } => self.allocate(*address, node, namespace, pod).await,
            Fix::ReleaseAddress {
                address,
                handle,
                sequence_number,
            } => {
                self.release_leaked(*address, handle.clone(), *sequence_number)
                    .await
            }
            Fix::CountHandle { handle, block } => self.store.recount(handle, block).await.map(|()| true),
            Fix::RemoveHandle { handle } => self.store.remove_if_empty(handle).await.map(|()| true),
            Fix::ClaimBlock { owner, block } => self.complete_claim(&Owner(owner.clone()), block).await,
            Fix::ReleaseBlock { owner, block } => self.complete_release(&Owner(owner.clone()), block).await,
            Fix::RemoveBlock { block } => self.remove_block(block).await,
        }
    }

    async fn repair(&self, cidr: &IpNet) -> Result<bool> {
        let mut attempts = Attempts::of(format!("block {cidr}"));
        loop {
            let Some(stored) = self.store.block(cidr).await? else {
                return Ok(false);
            };
            let Some(mut spec) = repaired(&stored.spec, clock::now()) else {
                let problem = problems(&stored.spec).join("; ");
                return Err(Error::DamagedBlock {
                    cidr: stored.spec.cidr,
                    problem,
                });
            };
            if spec == stored.spec {
                return Ok(false);
            }
            spec.sequence_number = spec.sequence_number.wrapping_add(1);
            match self.store.write(&IPAMBlock { spec, ..stored }).await {
                Ok(_) => return Ok(true),
                Err(error) => attempts.after(error).await?,
            };
        }
    }

    /// Reading an object that is marked deletes it.
    async fn finish(&self, kind: &str, name: &str) -> Result<bool> {
        match kind {
            "IPAMBlock" => drop(self.store.read::<IPAMBlock>(name).await?),
            "BlockAffinity" => drop(self.store.read::<BlockAffinity>(name).await?),
            "IPAMHandle" => drop(self.store.read::<IPAMHandle>(name).await?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    async fn correct_node(&self, address: IpAddr, node: &str, sequence_number: u64) -> Result<bool> {
        let mut attempts = Attempts::of(format!("block of {address}"));
        loop {
            let Some(stored) = self.block_with(address).await? else {
                return Ok(false);
            };
            let mut block = Block::from_spec(stored.spec.clone())?;
            if block.assigned_at(address) != Some(sequence_number)
                || !self.still_uses(&block, address, Some(node)).await?
            {
                return Ok(false);
            }
            block.set_attribute(address, "node", node);
            block.bump();
            let object = IPAMBlock {
                spec: block.into_spec(),
                ..stored
            };
            match self.store.write(&object).await {
                Ok(_) => return Ok(true),
                Err(error) => attempts.after(error).await?,
            };
        }
    }

    /// True when the pod of an allocation is on the node and has the address.
    async fn still_uses(&self, block: &Block, address: IpAddr, node: Option<&str>) -> Result<bool> {
        let claimant = block
            .assignment(address)
            .map(|(attribute, _)| Claimant::of(attribute));
        let Some(Claimant::Pod { namespace, name }) = claimant else {
            return Ok(false);
        };
        let pod = self.pod(&namespace, &name).await?;
        Ok(pod.is_some_and(|pod| has(&pod, address, node)))
    }

    async fn allocate(&self, address: IpAddr, node: &str, namespace: &str, name: &str) -> Result<bool> {
        let pod = self.pod(namespace, name).await?;
        if !pod.is_some_and(|pod| has(&pod, address, Some(node))) {
            return Ok(false);
        }
        let attributes = [("namespace", namespace), ("pod", name), ("node", node)];
        let request = AssignIp {
            address,
            host: node.to_owned(),
            // The plugin releases this handle too, whatever the network is called and the container's id is.
            handle: Some(format!("{namespace}.{name}")),
            attributes: attributes
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            use_: Some(IPPoolAllowedUse::Workload),
        };
        match self.assign_ip(&request).await {
            Ok(_) => Ok(true),
            Err(Error::AlreadyAssigned { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn release_leaked(
        &self,
        address: IpAddr,
        handle: Option<String>,
        sequence_number: u64,
    ) -> Result<bool> {
        let Some(stored) = self.block_with(address).await? else {
            return Ok(false);
        };
        let block = Block::from_spec(stored.spec.clone())?;
        let Some((attribute, number)) = block.assignment(address) else {
            return Ok(false);
        };
        if number != sequence_number || attribute.released_at.is_some() {
            return Ok(false);
        }
        let near = self.surroundings(&stored, &block, address).await?;
        if Index::new(&near).leak(address, &block, attribute).is_none() {
            return Ok(false);
        }
        let release = Release {
            address,
            handle,
            sequence_number: Some(sequence_number),
        };
        match self.release_ips(&[release]).await {
            Ok(released) => Ok(!released.released.is_empty()),
            Err(Error::BadSequenceNumber { .. } | Error::BadHandle { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What decides whether one allocation is a leak, read anew.
    async fn surroundings(&self, stored: &IPAMBlock, block: &Block, address: IpAddr) -> Result<Snapshot> {
        let mut near = Snapshot {
            blocks: vec![stored.clone()],
            now: clock::now(),
            ..Snapshot::default()
        };
        let Some((attribute, _)) = block.assignment(address) else {
            return Ok(near);
        };
        let client = &self.store.client;
        if let Some(node) = Index::node_of(block, attribute) {
            near.nodes
                .extend(repeated(|| client.get::<Node>(None, node)).await?);
        }
        match Claimant::of(attribute) {
            Claimant::Pod { namespace, name } => near.pods.extend(self.pod(&namespace, &name).await?),
            Claimant::Service { namespace, name } => {
                let service = repeated(|| client.get::<Service>(Some(&namespace), &name)).await?;
                near.services.extend(service);
            }
            Claimant::Machine { .. }
            | Claimant::Tunnel { .. }
            | Claimant::Reserve
            | Claimant::Windows
            | Claimant::Unknown => {}
        }
        Ok(near)
    }

    async fn complete_claim(&self, owner: &Owner, cidr: &IpNet) -> Result<bool> {
        let stored = self.store.block(cidr).await?;
        if stored.is_none_or(|stored| stored.spec.affinity.as_ref() != Some(&owner.0)) {
            return Ok(false);
        }
        self.store.claim(owner, cidr).await.map(|_| true)
    }

    async fn complete_release(&self, owner: &Owner, cidr: &IpNet) -> Result<bool> {
        let empty = Conditions {
            empty: true,
            ..Conditions::default()
        };
        match self.store.give_up(owner, cidr, empty).await {
            // The affinity went; the block was never this owner's.
            Ok(()) | Err(Error::Claimed { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    async fn remove_block(&self, cidr: &IpNet) -> Result<bool> {
        let mut attempts = Attempts::of(format!("block {cidr}"));
        loop {
            let Some(stored) = self.store.block(cidr).await? else {
                return Ok(false);
            };
            let block = Block::from_spec(stored.spec.clone())?;
            if !block.is_empty() || block.spec().affinity.is_some() {
                return Ok(false);
            }
            match self.store.remove(&stored).await {
                Ok(()) => return Ok(true),
                Err(error) => attempts.after(error).await?,
            };
        }
    }

    async fn pod(&self, namespace: &str, name: &str) -> Result<Option<Pod>> {
        let client = &self.store.client;
        Ok(repeated(|| client.get::<Pod>(Some(namespace), name)).await?)
    }
}

/// What makes others possible comes first.
const fn rank(fix: &Fix) -> u8 {
    match fix {
        Fix::RepairBlock { .. } => 0,
        Fix::FinishDeletion { .. } => 1,
        Fix::LabelAffinity { .. } => 2,
        Fix::CorrectNode { .. } => 3,
        Fix::AllocateAddress { .. } => 4,
        Fix::ReleaseAddress { .. } => 5,
        Fix::CountHandle { .. } => 6,
        Fix::RemoveHandle { .. } => 7,
        Fix::ClaimBlock { .. } => 8,
        Fix::ReleaseBlock { .. } => 9,
        Fix::RemoveBlock { .. } => 10,
    }
}

fn has(pod: &Pod, address: IpAddr, node: Option<&str>) -> bool {
    let on = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    on == node && pod_addresses(pod).is_some_and(|all| all.contains(&address))
}
