//! From template text to tokens: text outside of actions, and words inside of them.

use super::TemplateError;

/// A piece of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// Text outside of actions.
    Text(String),
    /// Begin of an action.
    Open,
    /// End of an action.
    Close,
    /// A name: keyword, function, `true`, `false` or `nil`.
    Word(String),
    /// `.Name`; directly after an operand when `glued`.
    Field {
        /// The name.
        name: String,
        /// It follows what is before it without a space.
        glued: bool,
    },
    /// `.` alone.
    Dot,
    /// `$name`, without the dollar.
    Variable(String),
    /// A string.
    Quoted(String),
    /// A number.
    Number(serde_json::Number),
    /// `|`
    Pipe,
    /// `(`
    Left,
    /// `)`
    Right,
    /// `,`
    Comma,
    /// `:=`
    Declare,
    /// `=`
    Assign,
}

/// A token and its line.
pub(super) type Placed = (usize, Token);

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
    tokens: Vec<Placed>,
}

/// The tokens of a template.
pub(super) fn tokens(text: &str) -> Result<Vec<Placed>, TemplateError> {
    let mut lexer = Lexer {
        rest: text,
        line: 1,
        tokens: Vec::new(),
    };
    let mut trim = false;
    while !lexer.rest.is_empty() {
        trim = lexer.text(trim)?;
    }
    Ok(lexer.tokens)
}

impl<'a> Lexer<'a> {
    fn fail(&self, problem: impl Into<String>) -> TemplateError {
        TemplateError {
            line: self.line,
            problem: problem.into(),
        }
    }

    fn advance(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }

    fn push(&mut self, token: Token) {
        self.tokens.push((self.line, token));
    }

    /// Reads text up to an action, and the action. Says whether the text behind it loses its leading space.
    fn text(&mut self, trim: bool) -> Result<bool, TemplateError> {
        let end = self.rest.find("{{").unwrap_or(self.rest.len());
        let text = self.advance(end);
        let mut text = if trim { text.trim_start() } else { text };
        let after = self.rest.get(2..).unwrap_or_default();
        let trims = after.starts_with('-') && after.chars().nth(1).is_some_and(char::is_whitespace);
        if trims {
            text = text.trim_end();
        }
        if !text.is_empty() {
            self.push(Token::Text(text.to_owned()));
        }
        if self.rest.is_empty() {
            return Ok(false);
        }
        self.advance(if trims { 3 } else { 2 });
        self.action()
    }

    /// Reads an action up to its end.
    fn action(&mut self) -> Result<bool, TemplateError> {
        if self.rest.trim_start().starts_with("/*") {
            return self.comment();
        }
        self.push(Token::Open);
        loop {
            let spaces = self.rest.len() - self.rest.trim_start().len();
            let spaced = spaces > 0;
            self.advance(spaces);
            if let Some(trims) = self.end(spaced) {
                self.push(Token::Close);
                return Ok(trims);
            }
            if self.rest.is_empty() {
                return Err(self.fail("an action is not ended; close it with }}"));
            }
            self.word(spaced)?;
        }
    }

    /// Takes the end of an action, if it is here, and says whether it trims.
    fn end(&mut self, spaced: bool) -> Option<bool> {
        if spaced && self.rest.starts_with("-}}") {
            self.advance(3);
            return Some(true);
        }
        self.rest.starts_with("}}").then(|| {
            self.advance(2);
            false
        })
    }

    fn comment(&mut self) -> Result<bool, TemplateError> {
        let spaces = self.rest.len() - self.rest.trim_start().len();
        self.advance(spaces);
        let end = self
            .rest
            .find("*/")
            .ok_or_else(|| self.fail("a comment is not ended; close it with */"))?;
        self.advance(end + 2);
        let spaces = self.rest.len() - self.rest.trim_start().len();
        self.advance(spaces);
        self.end(spaces > 0)
            .ok_or_else(|| self.fail("a comment stands alone in its action; close it with */}}"))
    }

    fn word(&mut self, spaced: bool) -> Result<(), TemplateError> {
        let Some(first) = self.rest.chars().next() else {
            return Ok(());
        };
        let token = match first {
            '|' => self.symbol(1, Token::Pipe),
            '(' => self.symbol(1, Token::Left),
            ')' => self.symbol(1, Token::Right),
            ',' => self.symbol(1, Token::Comma),
            ':' if self.rest.starts_with(":=") => self.symbol(2, Token::Declare),
            '=' => self.symbol(1, Token::Assign),
            '"' => self.quoted()?,
            '`' => self.raw()?,
            '\'' => self.character()?,
            '$' => {
                self.advance(1);
                Token::Variable(self.name())
            }
            '.' if !self.rest.chars().nth(1).is_some_and(|c| c.is_ascii_digit()) => {
                self.advance(1);
                match self.name() {
                    name if name.is_empty() => Token::Dot,
                    name => Token::Field { name, glued: !spaced },
                }
            }
            c if c.is_ascii_digit() || matches!(c, '+' | '-' | '.') => self.number()?,
            c if is_letter(c) => Token::Word(self.name()),
            other => return Err(self.fail(format!("unexpected {other:?} in an action"))),
        };
        self.push(token);
        Ok(())
    }

    fn symbol(&mut self, length: usize, token: Token) -> Token {
        self.advance(length);
        token
    }

    fn name(&mut self) -> String {
        let length = self
            .rest
            .find(|c: char| !is_letter(c) && !c.is_ascii_digit())
            .unwrap_or(self.rest.len());
        self.advance(length).to_owned()
    }

    fn raw(&mut self) -> Result<Token, TemplateError> {
        self.advance(1);
        let end = self
            .rest
            .find('`')
            .ok_or_else(|| self.fail("a `string` is not ended"))?;
        let text = self.advance(end).to_owned();
        self.advance(1);
        Ok(Token::Quoted(text))
    }

    fn quoted(&mut self) -> Result<Token, TemplateError> {
        let unended = || "a \"string\" is not ended";
        let mut end = 1;
        loop {
            let rest = self.rest.get(end..).unwrap_or_default();
            match rest.chars().next() {
                None | Some('\n') => return Err(self.fail(unended())),
                Some('"') => break,
                Some('\\') => end += 1 + rest.chars().nth(1).map_or(0, char::len_utf8),
                Some(other) => end += other.len_utf8(),
            }
        }
        let text = self.advance(end + 1);
        let inner = text.get(1..text.len() - 1).unwrap_or_default();
        unescaped(inner)
            .map(Token::Quoted)
            .map_err(|problem| self.fail(problem))
    }

    fn character(&mut self) -> Result<Token, TemplateError> {
        let inner = self.rest.get(1..).unwrap_or_default();
        let skip = usize::from(inner.starts_with('\\')) + 1;
        let end = inner
            .char_indices()
            .skip(skip)
            .find(|(_, c)| *c == '\'')
            .map(|(index, _)| index)
            .ok_or_else(|| self.fail("a 'character' is not ended"))?;
        let text = unescaped(inner.get(..end).unwrap_or_default()).map_err(|problem| self.fail(problem))?;
        self.advance(end + 2);
        let mut characters = text.chars();
        match (characters.next(), characters.next()) {
            (Some(character), None) => Ok(Token::Number(u32::from(character).into())),
            _ => Err(self.fail("a 'character' is one character")),
        }
    }

    fn number(&mut self) -> Result<Token, TemplateError> {
        let length = self
            .rest
            .find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '+' | '-'))
            .unwrap_or(self.rest.len());
        let text = self.advance(length).replace('_', "");
        let sign = if text.starts_with('-') { -1 } else { 1 };
        let digits = text.trim_start_matches(['+', '-']);
        let by_base = [("0x", 16), ("0X", 16), ("0b", 2), ("0o", 8)]
            .into_iter()
            .find_map(|(prefix, base)| i64::from_str_radix(digits.strip_prefix(prefix)?, base).ok());
        let whole = by_base
            .or_else(|| digits.parse::<i64>().ok())
            .map(|number| number * sign);
        let number = match whole {
            Some(number) => Some(number.into()),
            None => text.parse().ok().and_then(serde_json::Number::from_f64),
        };
        number
            .map(Token::Number)
            .ok_or_else(|| self.fail(format!("{text:?} is no number")))
    }
}

fn is_letter(c: char) -> bool {
    c == '_' || c.is_alphabetic()
}

/// A string without its escapes, as Go writes them.
pub(crate) fn unescaped(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            out.push(character);
            continue;
        }
        let plain = match characters.clone().next() {
            Some('n') => '\n',
            Some('t') => '\t',
            Some('r') => '\r',
            Some(same @ ('\\' | '"' | '\'' | '`')) => same,
            Some(kind @ ('x' | 'u' | 'U')) => {
                characters.next();
                let digits = match kind {
                    'x' => 2,
                    'u' => 4,
                    _ => 8,
                };
                let text: String = characters.by_ref().take(digits).collect();
                let code = u32::from_str_radix(&text, 16).ok().and_then(char::from_u32);
                out.push(code.ok_or_else(|| format!("\\{kind}{text} is no character"))?);
                continue;
            }
            other => return Err(format!("unknown escape \\{}", other.unwrap_or(' '))),
        };
        characters.next();
        out.push(plain);
    }
    Ok(out)
}
