//! The grammar of label selectors: `a=b`, `a in (b, c)`, `!a`, `a>1`, joined by commas.
//!
//! Pure. Errors say what was found and what could stand there. Source: the label selector syntax of Kubernetes.

use super::Test;

const OPERATORS: &str = "in, notin, =, ==, !=, gt, lt";

#[derive(Clone, Debug, PartialEq)]
enum Token<'a> {
    Word(&'a str),
    Sign(&'a str),
    End,
}

impl<'a> Token<'a> {
    const fn text(&self) -> &'a str {
        match self {
            Token::Word(text) | Token::Sign(text) => text,
            Token::End => "",
        }
    }
}

fn is_sign(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

/// Takes a selector apart; after the last token comes `End`, for ever.
struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    fn next(&mut self) -> Token<'a> {
        let (token, rest) = self.look();
        self.rest = rest;
        token
    }

    fn peek(&self) -> Token<'a> {
        self.look().0
    }

    fn look(&self) -> (Token<'a>, &'a str) {
        let text = self.rest.trim_start();
        let length = match text.chars().next() {
            None => return (Token::End, text),
            Some(c) if is_sign(c) && (text.starts_with("==") || text.starts_with("!=")) => 2,
            Some(c) if is_sign(c) => 1,
            Some(_) => text
                .find(|c: char| is_sign(c) || c.is_whitespace())
                .unwrap_or(text.len()),
        };
        let (token, rest) = text.split_at_checked(length).unwrap_or((text, ""));
        if token.starts_with(is_sign) {
            (Token::Sign(token), rest)
        } else {
            (Token::Word(token), rest)
        }
    }
}

fn found(token: &Token<'_>, expected: &str) -> String {
    format!("found '{}', expected: {expected}", token.text())
}

/// The requirements of a selector, all of which an object has to meet.
pub(super) fn parse(text: &str) -> Result<Vec<(String, Test)>, String> {
    let mut tokens = Tokens { rest: text };
    let mut requirements = Vec::new();
    match tokens.peek() {
        Token::End => return Ok(requirements),
        Token::Word(_) | Token::Sign("!") => {}
        other @ Token::Sign(_) => return Err(found(&other, "!, identifier, or 'end of string'")),
    }
    loop {
        let one = requirement(&mut tokens).map_err(|why| format!("unable to parse requirement: {why}"))?;
        requirements.push(one);
        match tokens.next() {
            Token::End => return Ok(requirements),
            Token::Sign(",") => match tokens.peek() {
                Token::Word(_) | Token::Sign("!") => {}
                other @ (Token::Sign(_) | Token::End) => {
                    return Err(found(&other, "identifier after ','"));
                }
            },
            other @ (Token::Sign(_) | Token::Word(_)) => {
                return Err(found(&other, "',' or 'end of string'"));
            }
        }
    }
}

fn requirement(tokens: &mut Tokens<'_>) -> Result<(String, Test), String> {
    let negated = tokens.peek() == Token::Sign("!");
    if negated {
        tokens.next();
    }
    let key = match tokens.next() {
        Token::Word(key) => key.to_owned(),
        other @ (Token::Sign(_) | Token::End) => return Err(found(&other, "identifier")),
    };
    crate::names::qualified(&key).map_err(|why| format!("key: Invalid value: \"{key}\": {why}"))?;
    if negated {
        return Ok((key, Test::Absent));
    }
    if matches!(tokens.peek(), Token::End | Token::Sign(",")) {
        return Ok((key, Test::Exists));
    }
    let test = match tokens.next() {
        Token::Word("in") => Test::In(values(tokens)?),
        Token::Word("notin") => Test::NotIn(values(tokens)?),
        Token::Sign("=" | "==") => Test::In(vec![value(tokens)?]),
        Token::Sign("!=") => Test::NotIn(vec![value(tokens)?]),
        Token::Word("gt") | Token::Sign(">") => Test::Greater(number(&key, &value(tokens)?)?),
        Token::Word("lt") | Token::Sign("<") => Test::Less(number(&key, &value(tokens)?)?),
        other => return Err(found(&other, OPERATORS)),
    };
    if let Test::In(values) | Test::NotIn(values) = &test {
        for (index, value) in values.iter().enumerate() {
            crate::names::label_value(value)
                .map_err(|why| format!("values[{index}][{key}]: Invalid value: \"{value}\": {why}"))?;
        }
    }
    Ok((key, test))
}

fn number(key: &str, text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| {
        format!("values[0][{key}]: Invalid value: \"{text}\": for 'Gt', 'Lt' operators, the value must be an integer")
    })
}

/// One value, which may be empty.
fn value(tokens: &mut Tokens<'_>) -> Result<String, String> {
    match tokens.peek() {
        Token::End | Token::Sign(",") => Ok(String::new()),
        Token::Word(text) => {
            tokens.next();
            Ok(text.to_owned())
        }
        other @ Token::Sign(_) => Err(found(&other, "identifier")),
    }
}

/// The values within parentheses; between two commas there is an empty one.
fn values(tokens: &mut Tokens<'_>) -> Result<Vec<String>, String> {
    match tokens.next() {
        Token::Sign("(") => {}
        other @ (Token::Word(_) | Token::Sign(_) | Token::End) => return Err(found(&other, "'('")),
    }
    let mut list = Vec::new();
    match tokens.peek() {
        Token::Word(_) | Token::Sign(",") => {}
        Token::Sign(")") => {
            tokens.next();
            return Ok(list);
        }
        other @ (Token::Sign(_) | Token::End) => return Err(found(&other, "',', ')' or identifier")),
    }
    loop {
        match tokens.peek() {
            Token::Word(text) => {
                tokens.next();
                list.push(text.to_owned());
            }
            Token::Sign("," | ")") => list.push(String::new()),
            other @ (Token::Sign(_) | Token::End) => return Err(found(&other, "',', or identifier")),
        }
        match tokens.next() {
            Token::Sign(",") => {}
            Token::Sign(")") => return Ok(list),
            other @ (Token::Word(_) | Token::Sign(_) | Token::End) => {
                return Err(found(&other, "',' or ')'"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_named_with_what_could_stand_there() {
        for (text, why) in [
            (
                "a===b",
                "unable to parse requirement: found '=', expected: identifier",
            ),
            (
                "a in (b",
                "unable to parse requirement: found '', expected: ',' or ')'",
            ),
            ("a in b", "unable to parse requirement: found 'b', expected: '('"),
            (
                "a ~ b",
                "unable to parse requirement: found '~', expected: in, notin, =, ==, !=, gt, lt",
            ),
            ("=x", "found '=', expected: !, identifier, or 'end of string'"),
            ("a,", "found '', expected: identifier after ','"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ] {
            assert_eq!(parse(text).unwrap_err(), why, "{text}");
        }
        // Cut anywhere it is an error or another selector, and never more than that.
        let whole = "a in (b, c),!d,e!=f,g>1,h notin (),i==";
        for (at, _) in whole.char_indices() {
            let _ = parse(whole.get(..at).unwrap());
        }
        assert_eq!(parse(whole).unwrap().len(), 6);
    }
}
