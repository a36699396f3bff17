//! From tokens to the tree, by the rules of Go's `text/template/parse`.

use super::ast::{Branch, Command, Node, Operand, Pipeline, Tree};
use super::functions;
use super::lex::{AsWritten, Kind, Literals, Token, tokens};

/// How deep actions and parentheses may nest.
const MAX_DEPTH: usize = 100;

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct SyntaxError {
    /// The line, counted from 1.
    pub line: u32,
    /// What is wrong, and what to do.
    pub reason: String,
}

/// Reads a template.
///
/// # Errors
/// When it is none, or calls a function that does not exist here.
pub fn parse(text: &str) -> Result<Tree, SyntaxError> {
    parse_with(text, &AsWritten)
}

/// Reads a template whose strings are not as they are written.
pub(super) fn parse_with(text: &str, literals: &dyn Literals) -> Result<Tree, SyntaxError> {
    let tokens = tokens(text, literals)?;
    let mut parser = Parser {
        tokens,
        at: 0,
        line: 1,
        tree: Tree::default(),
        variables: vec!["$".to_owned()],
        ranges: 0,
        depth: 0,
    };
    let body = match parser.nodes(true)? {
        (body, Stop::Text) => body,
        (_, end) => return parser.fault(format!("{{{{ {} }}}} belongs to nothing", end.word())),
    };
    parser.tree.body = body;
    Ok(parser.tree)
}

struct Parser {
    tokens: Vec<Token>,
    /// How many of them are read.
    at: usize,
    line: u32,
    tree: Tree,
    /// The variables that are in scope.
    variables: Vec<String>,
    /// How many ranges there are around.
    ranges: usize,
    depth: usize,
}

/// What ends a list of nodes.
#[derive(Clone, Copy, PartialEq)]
enum Stop {
    Text,
    End,
    /// `{{ else }}`
    Else,
    /// `{{ else if` and `{{ else with`: the action goes on.
    ElseIf,
    ElseWith,
}

impl Stop {
    fn word(self) -> &'static str {
        match self {
            Self::Text => "the end of the text",
            Self::End => "end",
            Self::Else => "else",
            Self::ElseIf => "else if",
            Self::ElseWith => "else with",
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Control {
    If,
    With,
    Range,
}

impl Parser {
    fn fault<T>(&self, reason: impl Into<String>) -> Result<T, SyntaxError> {
        Err(SyntaxError { line: self.line, reason: reason.into() })
    }

    fn next(&mut self) -> Option<Kind> {
        let token = self.tokens.get(self.at)?;
        self.at += 1;
        self.line = token.line;
        Some(token.kind.clone())
    }

    fn peek(&self) -> Option<&Kind> {
        self.tokens.get(self.at).map(|token| &token.kind)
    }

    /// The line of what comes next.
    fn line_ahead(&self) -> u32 {
        self.tokens.get(self.at).map_or(self.line, |token| token.line)
    }

    fn skip_space(&mut self) {
        while self.peek() == Some(&Kind::Space) {
            self.next();
        }
    }

    fn next_word(&mut self) -> Option<Kind> {
        self.skip_space();
        self.next()
    }

    fn close(&mut self, of: &str) -> Result<(), SyntaxError> {
        match self.next_word() {
            Some(Kind::Close) => Ok(()),
            _ => self.fault(format!("expected }}}} after {of}")),
        }
    }

    fn enter(&mut self) -> Result<(), SyntaxError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fault(format!("the template nests deeper than {MAX_DEPTH} levels"));
        }
        Ok(())
    }

    /// Nodes up to what ends them.
    fn nodes(&mut self, top: bool) -> Result<(Vec<Node>, Stop), SyntaxError> {
        self.enter()?;
        let mut nodes = Vec::new();
        let end = loop {
            let Some(kind) = self.next() else { break Stop::Text };
            match kind {
                Kind::Text(text) => nodes.push(Node::Text { text, line: self.line }),
                Kind::Comment(text) => nodes.push(Node::Comment { text, line: self.line }),
                _ => match self.action(top, &mut nodes)? {
                    None => {}
                    Some(end) => break end,
                },
            }
        };
        self.depth -= 1;
        Ok((nodes, end))
    }

    /// One action behind its `{{`.
    fn action(&mut self, top: bool, nodes: &mut Vec<Node>) -> Result<Option<Stop>, SyntaxError> {
        self.skip_space();
        let keyword = match self.peek() {
            Some(Kind::Word(word)) => word.clone(),
            _ => String::new(),
        };
        let line = self.line_ahead();
        match keyword.as_str() {
            "if" | "with" | "range" => {
                self.next();
                let control = match keyword.as_str() {
                    "if" => Control::If,
                    "with" => Control::With,
                    _ => Control::Range,
                };
                nodes.push(self.control(control)?);
            }
            "end" => {
                self.next();
                self.close("end")?;
                return Ok(Some(Stop::End));
            }
            "else" => {
                self.next();
                self.skip_space();
                return Ok(Some(match self.peek() {
                    Some(Kind::Word(word)) if word == "if" => Stop::ElseIf,
                    Some(Kind::Word(word)) if word == "with" => Stop::ElseWith,
                    _ => {
                        self.close("else")?;
                        Stop::Else
                    }
                }));
            }
            "break" | "continue" => {
                self.next();
                self.close(&keyword)?;
                if self.ranges == 0 {
                    return self.fault(format!("{{{{ {keyword} }}}} stands outside of a range"));
                }
                nodes.push(if keyword == "break" { Node::Break } else { Node::Continue });
            }
            "define" => {
                self.next();
                if !top {
                    return self.fault("{{ define }} may only stand at the top of the template");
                }
                let name = self.name("define")?;
                self.close("define")?;
                self.definition(name, "define")?;
            }
            "block" => {
                self.next();
                let name = self.name("block")?;
                let argument = Some(self.pipeline("block", &Kind::Close)?);
                self.definition(name.clone(), "block")?;
                nodes.push(Node::Template { name, argument, line });
            }
            "template" => {
                self.next();
                let name = self.name("template")?;
                self.skip_space();
                let argument = if self.peek() == Some(&Kind::Close) {
                    self.next();
                    None
                } else {
                    Some(self.pipeline("template", &Kind::Close)?)
                };
                nodes.push(Node::Template { name, argument, line });
            }
            _ => nodes.push(Node::Action(self.pipeline("an action", &Kind::Close)?)),
        }
        Ok(None)
    }

    fn name(&mut self, of: &str) -> Result<String, SyntaxError> {
        match self.next_word() {
            Some(Kind::Str(name)) => Ok(name),
            _ => self.fault(format!("expected a name in quotes after {of}")),
        }
    }

    /// The body of a definition, which sees no variables of the text around it.
    fn definition(&mut self, name: String, of: &str) -> Result<(), SyntaxError> {
        let variables = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let ranges = std::mem::take(&mut self.ranges);
        let (nodes, end) = self.nodes(false)?;
        if end != Stop::End {
            return self.fault(format!("{{{{ {of} }}}} ends with {}, not with {{{{ end }}}}", end.word()));
        }
        (self.variables, self.ranges) = (variables, ranges);
        let is_empty = |nodes: &[Node]| {
            nodes.iter().all(|node| match node {
                Node::Text { text, .. } => text.trim().is_empty(),
                Node::Comment { .. } => true,
                _ => false,
            })
        };
        match self.tree.definitions.get(&name) {
            // As in Go: an empty one replaces nothing, and may be replaced.
            Some(_) if is_empty(&nodes) => {}
            Some(old) if !is_empty(old) => {
                return self.fault(format!("the template {name:?} is defined twice"));
            }
            _ => {
                self.tree.definitions.insert(name, nodes);
            }
        }
        Ok(())
    }

    fn control(&mut self, control: Control) -> Result<Node, SyntaxError> {
        let scope = self.variables.len();
        let context = match control {
            Control::If => "if",
            Control::With => "with",
            Control::Range => "range",
        };
        let pipeline = self.pipeline(context, &Kind::Close)?;
        self.ranges += usize::from(control == Control::Range);
        let (body, end) = self.nodes(false)?;
        self.ranges -= usize::from(control == Control::Range);
        let otherwise = match (end, control) {
            (Stop::End, _) => Vec::new(),
            (Stop::ElseIf, Control::If) | (Stop::ElseWith, Control::With) => {
                self.next();
                self.enter()?;
                let node = self.control(control)?;
                self.depth -= 1;
                vec![node]
            }
            (Stop::Else, _) => match self.nodes(false)? {
                (nodes, Stop::End) => nodes,
                (_, end) => {
                    return self.fault(format!("expected {{{{ end }}}} of {context}, found {}", end.word()));
                }
            },
            (end, _) => {
                return self.fault(format!("expected {{{{ end }}}} of {context}, found {}", end.word()));
            }
        };
        self.variables.truncate(scope);
        let branch = Branch { pipeline, body, otherwise };
        Ok(match control {
            Control::If => Node::If(branch),
            Control::With => Node::With(branch),
            Control::Range => Node::Range(branch),
        })
    }

    fn pipeline(&mut self, context: &str, end: &Kind) -> Result<Pipeline, SyntaxError> {
        self.enter()?;
        self.skip_space();
        let line = self.line_ahead();
        let mut pipeline = Pipeline { line, variables: Vec::new(), assigns: false, commands: Vec::new() };
        self.declared(&mut pipeline, context)?;
        loop {
            self.skip_space();
            if self.peek() == Some(end) {
                self.next();
                break;
            }
            let command = self.command()?;
            if let (
                false,
                Some(
                    Operand::Bool(_)
                    | Operand::Dot
                    | Operand::Nil
                    | Operand::Int(_)
                    | Operand::Float(_)
                    | Operand::Text(_),
                ),
            ) = (pipeline.commands.is_empty(), command.operands.first())
            {
                return self.fault("what follows a | must be a function");
            }
            pipeline.commands.push(command);
        }
        if pipeline.commands.is_empty() {
            return self.fault(format!("a value is missing in {context}"));
        }
        self.depth -= 1;
        Ok(pipeline)
    }

    /// The variables that a pipeline declares or assigns to.
    fn declared(&mut self, pipeline: &mut Pipeline, context: &str) -> Result<(), SyntaxError> {
        let start = self.at;
        let Some(Kind::Variable(name)) = self.peek().cloned() else { return Ok(()) };
        self.next();
        self.skip_space();
        match self.peek() {
            Some(Kind::Declare | Kind::Assign) => {
                pipeline.variables.push(name);
            }
            Some(Kind::Comma) if context == "range" => {
                self.next();
                match self.next_word() {
                    Some(Kind::Variable(second)) => pipeline.variables.extend([name, second]),
                    _ => return self.fault("range can only declare variables"),
                }
                self.skip_space();
                if !matches!(self.peek(), Some(Kind::Declare | Kind::Assign)) {
                    return self.fault("expected := after the variables of range");
                }
            }
            Some(Kind::Comma) => return self.fault("only range declares two variables"),
            // It is the first operand.
            _ => {
                self.at = start;
                return Ok(());
            }
        }
        pipeline.assigns = self.next() == Some(Kind::Assign);
        if pipeline.assigns {
            if let Some(name) = pipeline.variables.iter().find(|name| !self.variables.contains(name)) {
                return self.fault(format!("the variable {name} is not declared"));
            }
        } else {
            self.variables.extend(pipeline.variables.iter().cloned());
        }
        Ok(())
    }

    fn command(&mut self) -> Result<Command, SyntaxError> {
        let line = self.line_ahead();
        let mut operands = Vec::new();
        loop {
            self.skip_space();
            if let Some(operand) = self.operand()? {
                operands.push(operand);
            }
            match self.peek() {
                Some(Kind::Space) => {
                    self.next();
                }
                Some(Kind::Close | Kind::RightParen) => break,
                Some(Kind::Pipe) => {
                    self.next();
                    break;
                }
                _ => {
                    self.next();
                    return self.fault("operands must be separated by spaces, and commands by |");
                }
            }
        }
        if operands.is_empty() {
            return self.fault("a command is empty");
        }
        Ok(Command { line, operands })
    }

    /// A term and the fields behind it; nothing, if no term begins here.
    fn operand(&mut self) -> Result<Option<Operand>, SyntaxError> {
        let Some(mut operand) = self.term()? else { return Ok(None) };
        let mut fields = Vec::new();
        while let Some(Kind::Field(name)) = self.peek() {
            fields.push(name.clone());
            self.next();
        }
        if fields.is_empty() {
            return Ok(Some(operand));
        }
        match &mut operand {
            Operand::Field(names) | Operand::Variable { fields: names, .. } => {
                names.append(&mut fields);
                Ok(Some(operand))
            }
            Operand::Function(_) | Operand::Parentheses(_) | Operand::Chain { .. } => {
                Ok(Some(Operand::Chain { of: Box::new(operand), fields }))
            }
            Operand::Dot
            | Operand::Nil
            | Operand::Bool(_)
            | Operand::Int(_)
            | Operand::Float(_)
            | Operand::Text(_) => self.fault("a constant has no fields; parentheses may be missing"),
        }
    }

    fn term(&mut self) -> Result<Option<Operand>, SyntaxError> {
        if matches!(self.peek(), None | Some(Kind::Close | Kind::RightParen | Kind::Pipe | Kind::Space)) {
            return Ok(None);
        }
        let Some(kind) = self.next() else { return Ok(None) };
        Ok(Some(match kind {
            Kind::Dot => Operand::Dot,
            Kind::Str(text) => Operand::Text(text),
            Kind::Int(number) => Operand::Int(number),
            Kind::Float(number) => Operand::Float(number),
            Kind::Field(name) => Operand::Field(vec![name]),
            Kind::Variable(name) if !self.variables.contains(&name) => {
                return self.fault(format!("the variable {name} is not declared"));
            }
            Kind::Variable(name) => Operand::Variable { name, fields: Vec::new() },
            Kind::LeftParen => {
                Operand::Parentheses(Box::new(self.pipeline("parentheses", &Kind::RightParen)?))
            }
            Kind::Word(word) => match word.as_str() {
                "true" => Operand::Bool(true),
                "false" => Operand::Bool(false),
                "nil" => Operand::Nil,
                "if" | "with" | "range" | "end" | "else" | "break" | "continue" | "define" | "block"
                | "template" => return self.fault(format!("{word} is unexpected here")),
                _ => match functions::why_not(&word) {
                    None => Operand::Function(word),
                    Some(reason) => return self.fault(reason),
                },
            },
            _ => return self.fault("a value or function was expected"),
        }))
    }
}
