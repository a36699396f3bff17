//! From the text of a template to its tokens, by the rules of Go's `text/template`.

use super::literal;
use super::parse::SyntaxError;

/// What the lexer found, and where.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) line: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// Text between actions; not empty.
    Text(String),
    Comment(String),
    /// `{{`
    Open,
    /// `}}`
    Close,
    /// White space within an action: it separates operands.
    Space,
    /// A name or a keyword.
    Word(String),
    /// `.name`, without the dot.
    Field(String),
    /// `$name`, with its `$`.
    Variable(String),
    Dot,
    Str(String),
    Int(i64),
    Float(f64),
    Pipe,
    Declare,
    Assign,
    Comma,
    LeftParen,
    RightParen,
}

/// What strings become, and whether a character of an action may not be in one: in the second of two passes the text
/// holds characters that stand for values.
pub(super) trait Literals {
    /// Whether the character stands for a value.
    fn is_place(&self, char: char) -> bool;
    /// The text of a string literal, which is `written` like this.
    fn text(&self, written: &str, text: String) -> Result<String, String>;
}

/// No character stands for anything.
pub(super) struct AsWritten;

impl Literals for AsWritten {
    fn is_place(&self, _char: char) -> bool {
        false
    }
    fn text(&self, _written: &str, text: String) -> Result<String, String> {
        Ok(text)
    }
}

const SPACES: [char; 4] = [' ', '\t', '\r', '\n'];

/// The tokens of a text.
pub(super) fn tokens(text: &str, literals: &dyn Literals) -> Result<Vec<Token>, SyntaxError> {
    let mut lexer = Lexer { rest: text, line: 1, tokens: Vec::new(), literals };
    let mut trims = false;
    loop {
        let open = lexer.rest.find("{{");
        let text = lexer.take(open.unwrap_or(lexer.rest.len()));
        let line = lexer.line;
        lexer.advance(text);
        let trims_right = open.is_some() && begins_with_trim(lexer.rest.get(2..).unwrap_or_default());
        lexer.text(text, line, trims, trims_right);
        if open.is_none() {
            return Ok(lexer.tokens);
        }
        trims = lexer.action(trims_right)?;
    }
}

/// `- ` behind an opening delimiter.
fn begins_with_trim(rest: &str) -> bool {
    rest.strip_prefix('-').is_some_and(|rest| rest.starts_with(SPACES))
}

struct Lexer<'t> {
    rest: &'t str,
    line: u32,
    tokens: Vec<Token>,
    literals: &'t dyn Literals,
}

impl<'t> Lexer<'t> {
    fn take(&mut self, length: usize) -> &'t str {
        let (taken, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    fn advance(&mut self, taken: &str) {
        let breaks = taken.bytes().filter(|byte| *byte == b'\n').count();
        self.line = self.line.saturating_add(u32::try_from(breaks).unwrap_or(u32::MAX));
    }

    fn push(&mut self, kind: Kind) {
        self.tokens.push(Token { kind, line: self.line });
    }

    fn fault<T>(&self, reason: impl Into<String>) -> Result<T, SyntaxError> {
        Err(SyntaxError { line: self.line, reason: reason.into() })
    }

    fn text(&mut self, text: &str, mut line: u32, left: bool, right: bool) {
        let text = if right { text.trim_end_matches(SPACES) } else { text };
        let kept = if left { text.trim_start_matches(SPACES) } else { text };
        let cut = text.get(..text.len() - kept.len()).unwrap_or_default();
        line += u32::try_from(cut.bytes().filter(|byte| *byte == b'\n').count()).unwrap_or_default();
        if !kept.is_empty() {
            self.tokens.push(Token { kind: Kind::Text(kept.to_owned()), line });
        }
    }

    /// Reads an action with its delimiters; tells whether it trims the text behind it.
    fn action(&mut self, trims: bool) -> Result<bool, SyntaxError> {
        let opening = if trims { "{{- ".len() } else { "{{".len() };
        if self.rest.get(opening..).is_some_and(|rest| rest.starts_with("/*")) {
            let opening = self.take(opening);
            self.advance(opening);
            return self.comment();
        }
        self.push(Kind::Open);
        // The space of a trim marker is a space of the action.
        self.take(if trims { "{{-".len() } else { "{{".len() });
        let mut parentheses = 0_usize;
        loop {
            if let Some(trims) = self.closing() {
                if parentheses > 0 {
                    return self.fault("a left parenthesis is not closed");
                }
                self.push(Kind::Close);
                let closing = self.take(if trims { " -}}".len() } else { "}}".len() });
                self.advance(closing);
                return Ok(trims);
            }
            let Some(char) = self.rest.chars().next() else {
                return self.fault("an action is not closed: }} is missing");
            };
            match char {
                _ if SPACES.contains(&char) => self.space(),
                '(' => parentheses += 1,
                ')' if parentheses == 0 => {
                    return self.fault("a right parenthesis closes nothing");
                }
                ')' => parentheses -= 1,
                _ => {}
            }
            if !SPACES.contains(&char) {
                self.token(char)?;
            }
        }
    }

    /// Whether the action is closed here; `true` with a trim marker.
    fn closing(&self) -> Option<bool> {
        if self.rest.starts_with("}}") {
            return Some(false);
        }
        self.rest.strip_prefix(SPACES).is_some_and(|rest| rest.starts_with("-}}")).then_some(true)
    }

    fn comment(&mut self) -> Result<bool, SyntaxError> {
        self.take("/*".len());
        let Some(end) = self.rest.find("*/") else {
            return self.fault("a comment is not closed: */ is missing");
        };
        let text = self.take(end);
        self.push(Kind::Comment(text.to_owned()));
        self.advance(text);
        self.take("*/".len());
        let Some(trims) = self.closing() else {
            return self.fault("an action holds a comment and something else");
        };
        let closing = self.take(if trims { " -}}".len() } else { "}}".len() });
        self.advance(closing);
        Ok(trims)
    }

    fn space(&mut self) {
        // One that belongs to a trim marker at the end stays.
        let spaces = self.rest.len() - self.rest.trim_start_matches(SPACES).len();
        let all = self.rest.get(spaces..).unwrap_or_default();
        let length = if all.starts_with("-}}") { spaces - 1 } else { spaces };
        if length > 0 {
            self.push(Kind::Space);
            let spaces = self.take(length);
            self.advance(spaces);
        }
    }

    fn token(&mut self, char: char) -> Result<(), SyntaxError> {
        let simple = match char {
            '(' => Some(Kind::LeftParen),
            ')' => Some(Kind::RightParen),
            '|' => Some(Kind::Pipe),
            ',' => Some(Kind::Comma),
            '=' => Some(Kind::Assign),
            _ => None,
        };
        if let Some(kind) = simple {
            self.push(kind);
            self.take(1);
            return Ok(());
        }
        match char {
            ':' if self.rest.starts_with(":=") => {
                self.push(Kind::Declare);
                self.take(2);
                Ok(())
            }
            ':' => self.fault("expected :="),
            '"' | '`' | '\'' => self.quoted(char),
            '$' => {
                let name = self.name_behind(1);
                self.push(Kind::Variable(format!("${name}")));
                self.terminated()
            }
            '.' if self
                .rest
                .get(1..)
                .is_some_and(|rest| rest.starts_with(|char: char| char.is_ascii_digit())) =>
            {
                self.number()
            }
            '.' => {
                let name = self.name_behind(1);
                self.push(if name.is_empty() { Kind::Dot } else { Kind::Field(name.to_owned()) });
                self.terminated()
            }
            '+' | '-' | '0'..='9' => self.number(),
            _ if is_of_name(char) => {
                let name = self.name_behind(0);
                self.push(Kind::Word(name.to_owned()));
                self.terminated()
            }
            _ => self.stray(char),
        }
    }

    fn stray<T>(&self, char: char) -> Result<T, SyntaxError> {
        if self.literals.is_place(char) {
            return self.fault(
                "a value that the first pass printed stands in an action of the second; there it may only stand within \
                 a string: {{ index .Cluster.metadata.labels \"…\" }}",
            );
        }
        self.fault(format!("{char:?} is unexpected in an action"))
    }

    fn name_behind(&mut self, before: usize) -> &'t str {
        self.take(before);
        let length = self.rest.find(|char| !is_of_name(char)).unwrap_or(self.rest.len());
        self.take(length)
    }

    /// What may stand behind a name.
    fn terminated(&self) -> Result<(), SyntaxError> {
        match self.rest.chars().next() {
            None | Some(' ' | '\t' | '\r' | '\n' | '.' | ',' | '|' | ':' | ')' | '(') => Ok(()),
            _ if self.rest.starts_with("}}") => Ok(()),
            Some(char) => self.stray(char),
        }
    }

    fn quoted(&mut self, quote: char) -> Result<(), SyntaxError> {
        let Some(length) = literal::length(self.rest, quote) else {
            return self.fault("a quoted text is not closed");
        };
        let written = self.take(length);
        let kind = if quote == '\'' {
            literal::char(written).map(Kind::Int)
        } else {
            literal::string(written).and_then(|text| self.literals.text(written, text)).map(Kind::Str)
        };
        match kind {
            Ok(kind) => self.push(kind),
            Err(reason) => return self.fault(reason),
        }
        self.advance(written);
        Ok(())
    }

    fn number(&mut self) -> Result<(), SyntaxError> {
        let length = literal::number_length(self.rest);
        let written = self.take(length);
        if self.rest.starts_with(is_of_name) {
            return self.fault("a number is not written as one");
        }
        match literal::number(written) {
            Some(literal::Number::Int(number)) => self.push(Kind::Int(number)),
            Some(literal::Number::Float(number)) => self.push(Kind::Float(number)),
            None => return self.fault("a number is not written as one, or too large"),
        }
        Ok(())
    }
}

fn is_of_name(char: char) -> bool {
    char == '_' || char.is_alphanumeric()
}
