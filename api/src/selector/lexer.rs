//! Characters to words. The language has no reserved words: what a word means depends on where it stands, so the
//! parser asks for what it expects and the lexer answers whether it is there.

/// Longest label.
pub(super) const LABEL_LENGTH_MAX: usize = 512;

/// A position in the text of a selector.
pub(super) struct Lexer<'a> {
    text: &'a str,
    position: usize,
}

/// What stands at a string literal's place.
pub(super) enum Literal<'a> {
    /// A string, without its quotes.
    Value(&'a str),
    /// An opening quote without a closing one.
    Unterminated,
    /// Something else.
    Absent,
}

const fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'/' | b'-')
}

impl<'a> Lexer<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, position: 0 }
    }

    /// Column of the next word, counted in characters from 1.
    pub(super) fn column(&mut self) -> usize {
        self.skip_blanks();
        self.text
            .get(..self.position)
            .unwrap_or(self.text)
            .chars()
            .count()
            + 1
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.position..).unwrap_or_default()
    }

    fn skip_blanks(&mut self) {
        let rest = self.rest();
        self.position += rest.len() - rest.trim_start_matches([' ', '\t']).len();
    }

    /// True when nothing but blanks is left.
    pub(super) fn at_end(&mut self) -> bool {
        self.skip_blanks();
        self.rest().is_empty()
    }

    /// True when punctuation is next.
    pub(super) fn is_next(&mut self, punctuation: &str) -> bool {
        self.skip_blanks();
        self.rest().starts_with(punctuation)
    }

    /// Takes punctuation, if it is next.
    pub(super) fn take(&mut self, punctuation: &str) -> bool {
        let found = self.is_next(punctuation);
        if found {
            self.position += punctuation.len();
        }
        found
    }

    /// Takes one or two words (blanks between them are free) that no label character follows, if they are next.
    pub(super) fn take_words(&mut self, first: &str, second: Option<&str>) -> bool {
        self.skip_blanks();
        let Some(mut rest) = self.rest().strip_prefix(first) else {
            return false;
        };
        if let Some(second) = second {
            match rest.trim_start_matches([' ', '\t']).strip_prefix(second) {
                Some(after) => rest = after,
                None => return false,
            }
        }
        if rest.bytes().next().is_some_and(is_label_byte) {
            return false;
        }
        self.position = self.text.len() - rest.len();
        true
    }

    /// Takes a function's name with its opening parenthesis, if it is next.
    pub(super) fn take_function(&mut self, name: &str) -> bool {
        self.skip_blanks();
        let found = self
            .rest()
            .strip_prefix(name)
            .is_some_and(|rest| rest.starts_with('('));
        if found {
            self.position += name.len() + 1;
        }
        found
    }

    /// Takes a label, if one is next.
    pub(super) fn take_label(&mut self) -> Option<&'a str> {
        self.skip_blanks();
        let rest = self.rest();
        let end = rest
            .bytes()
            .position(|byte| !is_label_byte(byte))
            .unwrap_or(rest.len());
        self.position += end;
        rest.get(..end).filter(|label| !label.is_empty())
    }

    /// Takes a string literal, if one is next.
    pub(super) fn take_literal(&mut self) -> Literal<'a> {
        self.skip_blanks();
        let rest = self.rest();
        let Some(quote @ ('"' | '\'')) = rest.chars().next() else {
            return Literal::Absent;
        };
        let Some((value, _)) = rest.get(1..).and_then(|rest| rest.split_once(quote)) else {
            return Literal::Unterminated;
        };
        self.position += value.len() + 2;
        Literal::Value(value)
    }
}
