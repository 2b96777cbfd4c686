//! The text form of label selectors. Grammar and error texts follow apimachinery, labels/selector.

use super::labels::{Operator, Requirement};
use crate::api::validation::error::{FieldError, Path};
use crate::api::validation::format;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Token {
    Error,
    End,
    Close,
    Comma,
    Not,
    DoubleEquals,
    Equals,
    GreaterThan,
    Identifier,
    In,
    LessThan,
    NotEquals,
    NotIn,
    Open,
}

/// The conditions of a selector, in the order in which they are written.
pub(super) fn requirements(text: &str) -> Result<Vec<Requirement>, String> {
    let mut parser = Parser { tokens: tokens(text), position: 0 };
    let mut requirements = Vec::new();
    loop {
        match parser.peek_value() {
            (Token::Identifier | Token::Not, _) => {}
            (Token::End, _) => return Ok(requirements),
            (_, text) => return Err(format!("found '{text}', expected: !, identifier, or 'end of string'")),
        }
        let requirement = parser.requirement().map_err(|error| format!("unable to parse requirement: {error}"))?;
        requirements.push(requirement);
        match parser.next_value() {
            (Token::End, _) => return Ok(requirements),
            (Token::Comma, _) => match parser.peek_value() {
                (Token::Identifier | Token::Not, _) => {}
                (_, text) => return Err(format!("found '{text}', expected: identifier after ','")),
            },
            (_, text) => return Err(format!("found '{text}', expected: ',' or 'end of string'")),
        }
    }
}

fn is_special(character: char) -> bool {
    matches!(character, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}

fn special(text: &str) -> Option<Token> {
    Some(match text {
        ")" => Token::Close,
        "," => Token::Comma,
        "!" => Token::Not,
        "==" => Token::DoubleEquals,
        "=" => Token::Equals,
        ">" => Token::GreaterThan,
        "<" => Token::LessThan,
        "!=" => Token::NotEquals,
        "(" => Token::Open,
        _ => return None,
    })
}

/// The words and signs of a selector; the last one is [`Token::End`]. A NUL ends the text, as it does in the original.
fn tokens(text: &str) -> Vec<(Token, &str)> {
    let mut rest = text.split('\0').next().unwrap_or_default();
    let mut tokens = Vec::new();
    loop {
        rest = rest.trim_start_matches(is_space);
        let Some(first) = rest.chars().next() else {
            tokens.push((Token::End, ""));
            return tokens;
        };
        let length = if is_special(first) {
            // The longest sign that is known: two characters or one.
            let two = rest.get(..2).filter(|two| special(two).is_some());
            two.map_or(1, str::len)
        } else {
            rest.find(|character| is_special(character) || is_space(character)).unwrap_or(rest.len())
        };
        let (word, after) = rest.split_at(length);
        let token = match word {
            "in" => Token::In,
            "notin" => Token::NotIn,
            word if is_special(first) => special(word).unwrap_or(Token::Error),
            _ => Token::Identifier,
        };
        tokens.push((token, word));
        rest = after;
    }
}

struct Parser<'a> {
    tokens: Vec<(Token, &'a str)>,
    position: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> (Token, &'a str) {
        self.tokens.get(self.position).copied().unwrap_or((Token::End, ""))
    }

    /// The next token, where the words `in` and `notin` are mere words.
    fn peek_value(&self) -> (Token, &'a str) {
        match self.peek() {
            (Token::In | Token::NotIn, text) => (Token::Identifier, text),
            other => other,
        }
    }

    fn next(&mut self) -> (Token, &'a str) {
        let token = self.peek();
        self.position += 1;
        token
    }

    fn next_value(&mut self) -> (Token, &'a str) {
        let token = self.peek_value();
        self.position += 1;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let (mut token, mut key) = self.next_value();
        let absent = token == Token::Not;
        if absent {
            (token, key) = self.next_value();
        }
        if token != Token::Identifier {
            return Err(format!("found '{key}', expected: identifier"));
        }
        let complaints = format::label_key(key);
        if !complaints.is_empty() {
            return Err(FieldError::invalid(&Path::Root, key, complaints.join("; ")).to_string());
        }
        let alone = matches!(self.peek_value().0, Token::End | Token::Comma);
        let (operator, values) = match (absent, alone) {
            (true, _) => (Operator::DoesNotExist, Vec::new()),
            (false, true) => (Operator::Exists, Vec::new()),
            (false, false) => {
                let operator = self.operator()?;
                let values = match operator {
                    Operator::In | Operator::NotIn => self.values()?,
                    _ => vec![self.exact_value()?],
                };
                (operator, values)
            }
        };
        Requirement::new(key, operator, &values).map_err(|errors| errors.to_string())
    }

    fn operator(&mut self) -> Result<Operator, String> {
        match self.next() {
            (Token::In, _) => Ok(Operator::In),
            (Token::Equals, _) => Ok(Operator::Equals),
            (Token::DoubleEquals, _) => Ok(Operator::DoubleEquals),
            (Token::GreaterThan, _) => Ok(Operator::GreaterThan),
            (Token::LessThan, _) => Ok(Operator::LessThan),
            (Token::NotIn, _) => Ok(Operator::NotIn),
            (Token::NotEquals, _) => Ok(Operator::NotEquals),
            (_, text) => Err(format!("found '{text}', expected: in, notin, =, ==, !=, gt, lt")),
        }
    }

    /// `(a,b)`: sorted, each once; an empty place is the empty value.
    fn values(&mut self) -> Result<Vec<&'a str>, String> {
        match self.next_value() {
            (Token::Open, _) => {}
            (_, text) => return Err(format!("found '{text}' expected: '('")),
        }
        let mut values = Vec::new();
        match self.peek_value() {
            (Token::Identifier | Token::Comma, _) => self.value_list(&mut values)?,
            (Token::Close, _) => values.push(""),
            (_, text) => return Err(format!("found '{text}', expected: ',', ')' or identifier")),
        }
        self.position += 1; // The closing parenthesis, at which value_list stops.
        values.sort_unstable();
        values.dedup();
        Ok(values)
    }

    fn value_list(&mut self, values: &mut Vec<&'a str>) -> Result<(), String> {
        loop {
            match self.next_value() {
                (Token::Identifier, text) => {
                    values.push(text);
                    match self.peek_value() {
                        (Token::Comma, _) => {}
                        (Token::Close, _) => return Ok(()),
                        (_, text) => return Err(format!("found '{text}', expected: ',' or ')'")),
                    }
                }
                (Token::Comma, _) => {
                    let next = self.peek_value().0;
                    if values.is_empty() || matches!(next, Token::Close | Token::Comma) {
                        values.push("");
                    }
                    if next == Token::Close {
                        return Ok(());
                    }
                }
                (_, text) => return Err(format!("found '{text}', expected: ',', or identifier")),
            }
        }
    }

    fn exact_value(&mut self) -> Result<&'a str, String> {
        if matches!(self.peek_value().0, Token::End | Token::Comma) {
            return Ok("");
        }
        match self.next_value() {
            (Token::Identifier, text) => Ok(text),
            (_, text) => Err(format!("found '{text}', expected: identifier")),
        }
    }
}
