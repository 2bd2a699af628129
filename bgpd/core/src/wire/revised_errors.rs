//! What an error in one attribute costs: RFC 7606 §3 and §7, attribute by attribute. Nothing else decides it.

use super::as_path::{self, Width};
use super::attribute::{self, Attribute, FLAG_OPTIONAL, FLAG_TRANSITIVE};
use super::update::UpdateContext;

/// What becomes of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It is used.
    Keep,
    /// It is not for this session and left out without a word.
    Ignore,
    /// It is left out (attribute discard).
    Discard(&'static str),
    /// The routes count as withdrawn (treat-as-withdraw).
    Withdraw(Fault),
    /// The session ends with this subcode of an UPDATE message error.
    Reset(u8),
}

/// An error that costs the message's routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Subcode, for the case that the session has to end after all (RFC 7606 §5.2).
    pub subcode: u8,
    /// What is wrong.
    pub reason: &'static str,
}

fn withdraw(subcode: u8, reason: &'static str) -> Judgement {
    Judgement::Withdraw(Fault { subcode, reason })
}

/// Judges one attribute other than MP_REACH_NLRI and MP_UNREACH_NLRI by flags and value.
pub(super) fn judge(attribute: &Attribute<'_>, context: &UpdateContext) -> Judgement {
    let categories = FLAG_OPTIONAL | FLAG_TRANSITIVE;
    let Some(category) = attribute::category(attribute.kind) else {
        return match attribute.flags & categories {
            flags if flags & FLAG_OPTIONAL == 0 => Judgement::Reset(2),
            FLAG_OPTIONAL => Judgement::Ignore,
            _ => Judgement::Keep,
        };
    };
    let discardable = matches!(
        attribute.kind,
        attribute::ATOMIC_AGGREGATE | attribute::AGGREGATOR | attribute::AS4_PATH | attribute::AS4_AGGREGATOR
    );
    // RFC 7606 §3 c.
    if attribute.flags & categories != category {
        return if discardable {
            Judgement::Discard("wrong attribute flags")
        } else {
            withdraw(4, "wrong attribute flags")
        };
    }
    judge_value(attribute.kind, attribute.value, context)
}

fn judge_value(kind: u8, value: &[u8], context: &UpdateContext) -> Judgement {
    let width = if context.as4 { Width::Four } else { Width::Two };
    let length = value.len();
    let multiple = |of: usize, reason| {
        if length > 0 && length.is_multiple_of(of) {
            Judgement::Keep
        } else {
            withdraw(5, reason)
        }
    };
    match kind {
        attribute::ORIGIN if !matches!(value, [0..=2]) => withdraw(6, "ORIGIN is malformed"),
        attribute::AS_PATH if !as_path::is_valid(value, width) => withdraw(11, "AS_PATH is malformed"),
        attribute::NEXT_HOP if length != 4 => withdraw(8, "NEXT_HOP has a wrong length"),
        attribute::MULTI_EXIT_DISC if length != 4 => withdraw(5, "MULTI_EXIT_DISC has a wrong length"),
        // RFC 7606 §7.5, §7.9, §7.10: these are not for external sessions.
        attribute::LOCAL_PREF | attribute::ORIGINATOR_ID | attribute::CLUSTER_LIST if context.ebgp => {
            Judgement::Ignore
        }
        attribute::LOCAL_PREF if length != 4 => withdraw(5, "LOCAL_PREF has a wrong length"),
        attribute::ORIGINATOR_ID if length != 4 => withdraw(5, "ORIGINATOR_ID has a wrong length"),
        attribute::CLUSTER_LIST => multiple(4, "CLUSTER_LIST has a wrong length"),
        attribute::ATOMIC_AGGREGATE if length != 0 => {
            Judgement::Discard("ATOMIC_AGGREGATE has a wrong length")
        }
        attribute::AGGREGATOR if length != if context.as4 { 8 } else { 6 } => {
            Judgement::Discard("AGGREGATOR has a wrong length")
        }
        attribute::COMMUNITIES => multiple(4, "COMMUNITIES has a wrong length"),
        attribute::EXTENDED_COMMUNITIES => multiple(8, "EXTENDED COMMUNITIES has a wrong length"),
        // RFC 9234 §5.
        attribute::ONLY_TO_CUSTOMER if length != 4 => withdraw(5, "ONLY_TO_CUSTOMER has a wrong length"),
        attribute::LARGE_COMMUNITY => multiple(12, "LARGE_COMMUNITY has a wrong length"),
        // RFC 6793 §4.1: a speaker with four octets does not send them; §6: malformed ones are discarded.
        attribute::AS4_PATH | attribute::AS4_AGGREGATOR if context.as4 => Judgement::Ignore,
        attribute::AS4_PATH if !as_path::is_valid(value, Width::Four) => {
            Judgement::Discard("AS4_PATH is malformed")
        }
        attribute::AS4_AGGREGATOR if length != 8 => Judgement::Discard("AS4_AGGREGATOR has a wrong length"),
        _ => Judgement::Keep,
    }
}
