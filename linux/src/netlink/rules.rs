//! Routing rules: which table a packet is looked up in.

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::routes::family;
use super::{Netlink, Rule, RuleTarget};
use crate::Result;

impl Netlink {
    /// The rules of one family, in order of priority.
    ///
    /// # Errors
    /// When the listing fails.
    pub async fn rules(&self, v6: bool) -> Result<Vec<Rule>> {
        let mut message = RuleMessage::default();
        message.header.family = family(v6);
        let dump = self
            .dump("list rules", RouteNetlinkMessage::GetRule(message))
            .await?;
        let mut rules: Vec<Rule> = dump
            .into_iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewRule(rule) => rule_from(&rule),
                _ => None,
            })
            .collect();
        rules.sort();
        Ok(rules)
    }

    /// Adds a rule.
    ///
    /// # Errors
    /// `is_exists` when the same rule is there.
    pub async fn add_rule(&self, rule: &Rule) -> Result<()> {
        self.request(
            || format!("add rule with priority {}", rule.priority),
            RouteNetlinkMessage::NewRule(rule_message(rule)),
            NLM_F_CREATE | NLM_F_EXCL,
        )
        .await
    }

    /// Deletes a rule.
    ///
    /// # Errors
    /// `is_not_found` when there is none like it.
    pub async fn delete_rule(&self, rule: &Rule) -> Result<()> {
        self.request(
            || format!("delete rule with priority {}", rule.priority),
            RouteNetlinkMessage::DelRule(rule_message(rule)),
            0,
        )
        .await
    }
}

fn rule_message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family(rule.v6);
    message.attributes.push(RuleAttribute::Priority(rule.priority));
    if rule.invert {
        message.header.flags |= RuleFlags::Invert;
    }
    match rule.target {
        RuleTarget::Table(table) => {
            message.header.action = RuleAction::ToTable;
            message.header.table = u8::try_from(table).unwrap_or(0);
            message.attributes.push(RuleAttribute::Table(table));
        }
        RuleTarget::Blackhole => message.header.action = RuleAction::Blackhole,
        RuleTarget::Other(number) => message.header.action = RuleAction::from(number),
    }
    if let Some(from) = rule.from {
        message.header.src_len = from.prefix_len();
        message.attributes.push(RuleAttribute::Source(from.addr()));
    }
    if let Some(to) = rule.to {
        message.header.dst_len = to.prefix_len();
        message.attributes.push(RuleAttribute::Destination(to.addr()));
    }
    if let Some((mark, mask)) = rule.mark {
        message.attributes.push(RuleAttribute::FwMark(mark));
        message.attributes.push(RuleAttribute::FwMask(mask));
    }
    if let Some(iif) = &rule.iif {
        message.attributes.push(RuleAttribute::Iifname(iif.clone()));
    }
    if rule.protocol > 0 {
        message
            .attributes
            .push(RuleAttribute::Protocol(rule.protocol.into()));
    }
    message
}

fn rule_from(message: &RuleMessage) -> Option<Rule> {
    let header = &message.header;
    let v6 = match header.family {
        AddressFamily::Inet => false,
        AddressFamily::Inet6 => true,
        _ => return None,
    };
    let mut table = u32::from(header.table);
    let mut mark = None;
    let mut mask = u32::MAX;
    let mut rule = Rule::lookup(table, 0, v6);
    rule.invert = header.flags.contains(RuleFlags::Invert);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(priority) => rule.priority = *priority,
            RuleAttribute::Table(number) => table = *number,
            RuleAttribute::Source(ip) => rule.from = IpNet::new(*ip, header.src_len).ok(),
            RuleAttribute::Destination(ip) => rule.to = IpNet::new(*ip, header.dst_len).ok(),
            RuleAttribute::FwMark(value) => mark = Some(*value),
            RuleAttribute::FwMask(value) => mask = *value,
            RuleAttribute::Iifname(name) => rule.iif = Some(name.clone()),
            RuleAttribute::Protocol(protocol) => rule.protocol = (*protocol).into(),
            _ => {}
        }
    }
    rule.mark = mark.map(|mark| (mark, mask));
    rule.target = match header.action {
        RuleAction::ToTable => RuleTarget::Table(table),
        RuleAction::Blackhole => RuleTarget::Blackhole,
        other => RuleTarget::Other(other.into()),
    };
    Some(rule)
}
