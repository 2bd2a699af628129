//! Conditions of an object's status: the list with one of them brought up to date. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// A condition as a controller wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its type.
    pub type_: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, for a person.
    pub message: String,
}

/// The list with the condition as wanted; `None` when it is so already. The time of the last transition changes with
/// the status only.
#[must_use]
pub fn with(
    existing: &[Condition],
    wanted: &Wanted,
    generation: Option<i64>,
    now: Timestamp,
) -> Option<Vec<Condition>> {
    let status = if wanted.holds { "True" } else { "False" };
    let before = existing.iter().find(|condition| condition.type_ == wanted.type_);
    if before.is_some_and(|before| {
        before.status == status && before.reason == wanted.reason && before.message == wanted.message
    }) {
        return None;
    }
    let since = before.filter(|before| before.status == status).map_or_else(
        || Time(Timestamp::from_second(now.as_second()).unwrap_or(now)),
        |before| before.last_transition_time.clone(),
    );
    let condition = Condition {
        type_: wanted.type_.to_owned(),
        status: status.to_owned(),
        reason: wanted.reason.to_owned(),
        message: wanted.message.clone(),
        observed_generation: generation,
        last_transition_time: since,
    };
    let mut list: Vec<Condition> = existing.to_vec();
    match list.iter_mut().find(|condition| condition.type_ == wanted.type_) {
        Some(place) => *place = condition,
        None => list.push(condition),
    }
    Some(list)
}

/// Whether a condition is in the list and holds; `None` when it is not there.
#[must_use]
pub fn holds(existing: &[Condition], type_: &str) -> Option<bool> {
    existing
        .iter()
        .find(|condition| condition.type_ == type_)
        .map(|condition| condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(holds: bool, reason: &'static str) -> Wanted {
        Wanted {
            type_: "Allocatable",
            holds,
            reason,
            message: String::new(),
        }
    }

    #[test]
    fn the_time_moves_with_the_status_only() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = with(&[], &wanted(true, "OK"), Some(1), at(10)).unwrap();
        assert_eq!(with(&first, &wanted(true, "OK"), Some(2), at(20)), None);
        let second = with(&first, &wanted(true, "Other"), Some(2), at(20)).unwrap();
        assert_eq!(second[0].last_transition_time.0, at(10));
        let third = with(&second, &wanted(false, "Disabled"), Some(2), at(30)).unwrap();
        assert_eq!(third[0].last_transition_time.0, at(30));
        assert_eq!(third.len(), 1);
        assert_eq!(holds(&third, "Allocatable"), Some(false));
        assert_eq!(holds(&third, "Ready"), None);
    }
}
