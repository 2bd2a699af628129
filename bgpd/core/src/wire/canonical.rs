//! The form in which a set of attributes is kept and compared: ascending by type, AS numbers in four octets, flags as
//! an originator sets them, without next hop and MP attributes, with the LOCAL_PREF that RFC 4271 §5.1.5 leaves to us.

use super::as_path;
use super::attribute::{self, Attribute, FLAG_OPTIONAL, FLAG_PARTIAL, FLAG_TRANSITIVE};
use super::encode;
use super::open::AS_TRANS;
use super::update::{UpdateContext, UpdateView};

/// LOCAL_PREF of routes from other ASes.
pub const DEFAULT_LOCAL_PREF: u32 = 100;

/// Appends the canonical form of the attributes of an UPDATE without fault.
pub fn write(view: &UpdateView<'_>, context: &UpdateContext, out: &mut Vec<u8>) {
    let find = |kind| {
        let found = view.kept.iter().find(|attribute| attribute.kind == kind);
        found.map(|attribute| attribute.value)
    };
    // RFC 6793 §4.2.3: an AGGREGATOR that is not AS_TRANS says that the AS4 attributes are out of date.
    let aggregator = find(attribute::AGGREGATOR);
    let [high, low] = AS_TRANS.to_be_bytes();
    let current = aggregator.is_none_or(|value| value.starts_with(&[high, low]));
    let as4_path = find(attribute::AS4_PATH).filter(|_| current);
    let as4_aggregator = find(attribute::AS4_AGGREGATOR).filter(|_| current);
    let mut local_pref_due = context.ebgp;
    let mut scratch = Vec::new();
    for attribute in &view.kept {
        if local_pref_due && attribute.kind > attribute::LOCAL_PREF {
            write_local_pref(out);
            local_pref_due = false;
        }
        scratch.clear();
        match attribute.kind {
            attribute::AS4_PATH | attribute::AS4_AGGREGATOR => {}
            attribute::AS_PATH if !context.as4 => {
                match as4_path {
                    Some(long) => as_path::merge(attribute.value, long, &mut scratch),
                    None => as_path::widen(attribute.value, &mut scratch),
                }
                encode::attribute(out, FLAG_TRANSITIVE, attribute::AS_PATH, &scratch);
            }
            attribute::AGGREGATOR if !context.as4 => {
                match as4_aggregator {
                    Some(long) => scratch.extend(long),
                    None => {
                        scratch.extend([0, 0]);
                        scratch.extend(attribute.value);
                    }
                }
                write_known(attribute, &scratch, out);
            }
            _ => write_known(attribute, attribute.value, out),
        }
    }
    if local_pref_due {
        write_local_pref(out);
    }
}

fn write_local_pref(out: &mut Vec<u8>) {
    let value = DEFAULT_LOCAL_PREF.to_be_bytes();
    encode::attribute(out, FLAG_TRANSITIVE, attribute::LOCAL_PREF, &value);
}

/// RFC 4271 §5: the Partial bit stays with an optional transitive attribute, and is set on one that is not known here.
fn write_known(attribute: &Attribute<'_>, value: &[u8], out: &mut Vec<u8>) {
    let flags = match attribute::category(attribute.kind) {
        Some(category) if category == FLAG_OPTIONAL | FLAG_TRANSITIVE => {
            category | attribute.flags & FLAG_PARTIAL
        }
        Some(category) => category,
        None => FLAG_OPTIONAL | FLAG_TRANSITIVE | FLAG_PARTIAL,
    };
    encode::attribute(out, flags, attribute.kind, value);
}
