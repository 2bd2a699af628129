//! Values of which a table of many prefixes has few, each kept once and known by a number.

use std::hash::Hash;

use hashbrown::HashMap;

/// Numbers of values; 0 is none.
#[derive(Debug)]
pub(crate) struct Numbers<T> {
    numbers: HashMap<T, u32>,
    values: Vec<T>,
}

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Self {
            numbers: HashMap::new(),
            values: Vec::new(),
        }
    }
}

impl<T: Clone + Eq + Hash> Numbers<T> {
    /// Returns the number of a value; equal values have equal numbers.
    pub(crate) fn number(&mut self, value: Option<&T>) -> u32 {
        let Some(value) = value else { return 0 };
        if let Some(known) = self.numbers.get(value) {
            return *known;
        }
        self.values.push(value.clone());
        let number = u32::try_from(self.values.len()).unwrap_or(0);
        self.numbers.insert(value.clone(), number);
        number
    }

    /// Returns the value with a number.
    pub(crate) fn value(&self, number: u32) -> Option<&T> {
        self.values.get((number as usize).checked_sub(1)?)
    }

    /// Forgets all numbers. None of them is in use.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_have_one_number_that_leads_back() {
        let mut numbers = Numbers::default();
        let known = ["a", "b", "a"].map(|value| numbers.number(Some(&value)));
        assert_eq!((known, numbers.number(None)), ([1, 2, 1], 0));
        assert_eq!(
            (numbers.value(2), numbers.value(0), numbers.value(3)),
            (Some(&"b"), None, None)
        );
        numbers.clear();
        assert_eq!(numbers.value(1), None);
    }
}
