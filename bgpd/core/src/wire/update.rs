//! A view of an UPDATE (RFC 4271 §4.3, §6.3; RFC 7606): fields found and checked, nothing copied.

use std::net::{IpAddr, Ipv4Addr};

use super::attribute::{self, Attribute};
use super::cursor::Cursor;
use super::mp::{self, MpContext, MpError, MpReach, NextHop};
use super::nlri::Nlri;
use super::notification::{Notification, UPDATE_MESSAGE_ERROR};
use super::revised_errors::{Judgement, judge};
use crate::family::Family;

pub use super::revised_errors::Fault;

/// What the session has agreed on that changes how an UPDATE is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpdateContext {
    /// The peer is of another AS.
    pub ebgp: bool,
    /// AS numbers take four octets.
    pub as4: bool,
    /// What concerns MP attributes and path identifiers.
    pub mp: MpContext,
}

/// A parsed UPDATE.
#[derive(Clone, Debug)]
pub struct UpdateView<'a> {
    /// Withdrawn routes of RFC 4271.
    pub withdrawn: Nlri<'a>,
    /// Announced routes of RFC 4271.
    pub announced: Nlri<'a>,
    /// Their next hop.
    pub next_hop: Option<NextHop>,
    /// MP_REACH_NLRI of a family that is carried here.
    pub reach: Option<MpReach<'a>>,
    /// MP_UNREACH_NLRI of a family that is carried here.
    pub unreach: Option<Nlri<'a>>,
    /// Why the announced routes count as withdrawn (treat-as-withdraw).
    pub fault: Option<Fault>,
    /// Attributes that were left out because of an error in them.
    pub discarded: u32,
    /// What was wrong with the last of these.
    pub discard_reason: Option<&'static str>,
    /// The attributes to be used, in ascending order of their types, without those that carry routes or next hops.
    pub(super) kept: Vec<Attribute<'a>>,
    block: &'a [u8],
}

impl<'a> UpdateView<'a> {
    /// Parses what follows the header.
    ///
    /// # Errors
    /// The NOTIFICATION to end the session with; by RFC 7606 only where the routes cannot be found or trusted.
    pub fn parse(body: &'a [u8], context: &UpdateContext) -> Result<Self, Notification> {
        let malformed = || error(1, &[]);
        let mut cursor = Cursor::new(body);
        let length = cursor.u16().ok_or_else(malformed)?;
        let withdrawn = cursor.take(usize::from(length)).ok_or_else(malformed)?;
        let length = cursor.u16().ok_or_else(malformed)?;
        let block = cursor.take(usize::from(length)).ok_or_else(malformed)?;
        let add_path = context.mp.add_path(Family::Ipv4);
        let classic = |field| Nlri::parse(field, Family::Ipv4, add_path).map_err(|_| error(10, &[]));
        let mut view = Self {
            withdrawn: classic(withdrawn)?,
            announced: classic(cursor.rest())?,
            next_hop: None,
            reach: None,
            unreach: None,
            fault: None,
            discarded: 0,
            discard_reason: None,
            kept: Vec::new(),
            block,
        };
        view.walk(context)?;
        view.check_presence(context);
        // RFC 7606 §5.2: where no route is announced, a serious error may have hidden them.
        match view.fault {
            Some(fault) if view.announced.is_empty() && view.reach.is_none() => {
                Err(error(fault.subcode, &[]))
            }
            _ => Ok(view),
        }
    }

    /// Returns the family whose End-of-RIB marker this is (RFC 4724 §2).
    pub fn end_of_rib(&self) -> Option<Family> {
        if !self.withdrawn.is_empty() || !self.announced.is_empty() {
            return None;
        }
        if self.block.is_empty() {
            return Some(Family::Ipv4);
        }
        let mut attributes = attribute::walk(self.block);
        let only = attributes.next()?.ok()?;
        let alone = attributes.next().is_none() && only.kind == attribute::MP_UNREACH_NLRI;
        self.unreach
            .filter(|routes| alone && routes.is_empty())
            .map(Nlri::family)
    }

    fn walk(&mut self, context: &UpdateContext) -> Result<(), Notification> {
        let mut seen = [false; 256];
        for step in attribute::walk(self.block) {
            let Ok(attribute) = step else {
                // RFC 7606 §4: the length of the block is relied upon to find the routes.
                self.add_fault(Fault {
                    subcode: 1,
                    reason: "an attribute runs over the end of the attributes",
                });
                break;
            };
            let is_mp = matches!(
                attribute.kind,
                attribute::MP_REACH_NLRI | attribute::MP_UNREACH_NLRI
            );
            let repeated = seen
                .get_mut(usize::from(attribute.kind))
                .is_some_and(|seen| std::mem::replace(seen, true));
            // RFC 7606 §3 g.
            if repeated && is_mp {
                return Err(error(1, &[]));
            }
            if repeated {
                self.discard("attribute occurs twice");
            } else if is_mp {
                self.take_mp(&attribute, context)?;
            } else {
                self.take(attribute, context)?;
            }
        }
        self.kept.sort_by_key(|attribute| attribute.kind);
        Ok(())
    }

    fn take(&mut self, attribute: Attribute<'a>, context: &UpdateContext) -> Result<(), Notification> {
        match judge(&attribute, context) {
            Judgement::Keep if attribute.kind == attribute::NEXT_HOP => {
                let octets: Option<[u8; 4]> = attribute.value.try_into().ok();
                self.next_hop = octets.map(|octets| IpAddr::V4(Ipv4Addr::from(octets)).into());
            }
            Judgement::Keep => self.kept.push(attribute),
            Judgement::Ignore => {}
            Judgement::Discard(reason) => self.discard(reason),
            Judgement::Withdraw(fault) => self.add_fault(fault),
            Judgement::Reset(subcode) => return Err(error(subcode, attribute.octets)),
        }
        Ok(())
    }

    fn take_mp(&mut self, attribute: &Attribute<'a>, context: &UpdateContext) -> Result<(), Notification> {
        let categories = attribute::FLAG_OPTIONAL | attribute::FLAG_TRANSITIVE;
        if attribute.flags & categories != attribute::FLAG_OPTIONAL {
            self.add_fault(Fault {
                subcode: 4,
                reason: "wrong attribute flags",
            });
        }
        let answer = |problem| match problem {
            MpError::Structure => error(5, attribute.octets),
            MpError::InvalidNetworkField => error(10, &[]),
        };
        if attribute.kind == attribute::MP_REACH_NLRI {
            self.reach = mp::parse_reach(attribute.value, context.mp).map_err(answer)?;
        } else {
            self.unreach = mp::parse_unreach(attribute.value, context.mp).map_err(answer)?;
        }
        Ok(())
    }

    /// RFC 7606 §3 d: a missing mandatory attribute costs the routes.
    fn check_presence(&mut self, context: &UpdateContext) {
        if self.fault.is_some() || (self.announced.is_empty() && self.reach.is_none()) {
            return;
        }
        let has = |kind| self.kept.iter().any(|attribute| attribute.kind == kind);
        let reason = if !has(attribute::ORIGIN) {
            "ORIGIN is missing"
        } else if !has(attribute::AS_PATH) {
            "AS_PATH is missing"
        } else if !context.ebgp && !has(attribute::LOCAL_PREF) {
            "LOCAL_PREF is missing"
        } else if !self.announced.is_empty() && self.next_hop.is_none() {
            "NEXT_HOP is missing"
        } else {
            return;
        };
        self.fault = Some(Fault { subcode: 3, reason });
    }

    fn add_fault(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    fn discard(&mut self, reason: &'static str) {
        self.discarded += 1;
        self.discard_reason = Some(reason);
    }
}

fn error(subcode: u8, data: &[u8]) -> Notification {
    Notification::new(UPDATE_MESSAGE_ERROR, subcode, data)
}

#[cfg(test)]
#[path = "update/tests.rs"]
mod tests;
