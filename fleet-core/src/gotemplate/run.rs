//! Rendering: the tree is walked as Go's `text/template` walks it.

use std::sync::Arc;

use super::ast::{Branch, Command, Node, Operand, Pipeline, Tree};
use super::format;
use super::functions::{self, Call, Function};
use super::value::{Heap, Printed, Value, json_scalar};
use crate::printed::{LONGEST, Refusal, Sink, Slot, Span, too_long};
use crate::render::TemplateFault;

/// How deep actions, parentheses and calls of templates may nest while they are rendered.
const MAX_DEPTH: usize = 300;

/// What a rendering wrote.
pub(super) struct Written {
    pub(super) text: String,
    pub(super) spans: Vec<Span>,
}

/// Why a rendering ended, and at which line.
pub(super) struct Fault {
    pub(super) line: u32,
    pub(super) refusal: Refusal,
}

/// What a rendering prints into.
#[derive(Clone, Copy)]
pub(super) struct Output<'r> {
    /// Where values go; without, they are printed as text: the output step is off.
    pub(super) sink: Option<&'r Sink>,
    /// Whether `{{ "…" }}` is text of the template, as it is where what comes out is a template again.
    pub(super) constants_are_text: bool,
}

/// Renders a template.
pub(super) fn run(tree: &Tree, heap: &mut Heap, root: Value, output: Output<'_>) -> Result<Written, Fault> {
    let mut run = Run {
        tree,
        heap,
        output,
        variables: vec![("$", root.clone())],
        frame: 0,
        written: Written { text: String::new(), spans: Vec::new() },
        line: 1,
        depth: 0,
    };
    match run.nodes(&tree.body, &root) {
        Ok(_) => Ok(run.written),
        Err(refusal) => Err(Fault { line: run.line, refusal }),
    }
}

struct Run<'r> {
    tree: &'r Tree,
    heap: &'r mut Heap,
    output: Output<'r>,
    variables: Vec<(&'r str, Value)>,
    /// Where the variables of the template begin that is being rendered.
    frame: usize,
    written: Written,
    /// Where we are.
    line: u32,
    depth: usize,
}

/// How a list of nodes ended.
#[derive(Clone, Copy, PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

impl<'r> Run<'r> {
    fn enter(&mut self) -> Result<(), Refusal> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let reason = format!("actions and templates nest deeper than {MAX_DEPTH} levels");
            return Err(Refusal::new(TemplateFault::Limit, reason));
        }
        self.heap.charge(1)
    }

    fn nodes(&mut self, nodes: &'r [Node], dot: &Value) -> Result<Flow, Refusal> {
        self.enter()?;
        for node in nodes {
            self.heap.charge(1)?;
            let flow = match node {
                Node::Text { text, line } => {
                    self.line = *line;
                    self.write(text, true)?;
                    Flow::On
                }
                Node::Comment { .. } => Flow::On,
                Node::Action(pipeline) => {
                    self.action(pipeline, dot)?;
                    Flow::On
                }
                Node::If(branch) => self.branch(branch, dot, false)?,
                Node::With(branch) => self.branch(branch, dot, true)?,
                Node::Range(branch) => self.range(branch, dot)?,
                Node::Break => Flow::Break,
                Node::Continue => Flow::Continue,
                Node::Template { name, argument, line } => {
                    self.line = *line;
                    self.template(name, argument.as_ref(), dot)?;
                    Flow::On
                }
            };
            if flow != Flow::On {
                self.depth -= 1;
                return Ok(flow);
            }
        }
        self.depth -= 1;
        Ok(Flow::On)
    }

    fn write(&mut self, text: &str, raw: bool) -> Result<(), Refusal> {
        if text.is_empty() {
            return Ok(());
        }
        let start = self.written.text.len();
        if start.saturating_add(text.len()) > LONGEST {
            return Err(too_long());
        }
        self.heap.charge(text.len() / 64)?;
        let line = usize::try_from(self.line).unwrap_or(usize::MAX);
        self.written.spans.push(Span { start, line, raw });
        self.written.text.push_str(text);
        Ok(())
    }

    fn action(&mut self, pipeline: &'r Pipeline, dot: &Value) -> Result<(), Refusal> {
        if let Some(text) = pipeline.as_text().filter(|_| self.output.constants_are_text) {
            self.line = pipeline.line;
            return self.write(text, true);
        }
        let value = self.pipeline(pipeline, dot)?;
        if !pipeline.variables.is_empty() {
            return Ok(());
        }
        self.line = pipeline.line;
        self.print(&value)
    }

    /// The output step: a value is printed as a character that stands for it.
    fn print(&mut self, value: &Value) -> Result<(), Refusal> {
        let no_text = |how: &str| {
            let reason =
                format!("{} is printed where a text, number or boolean is needed; {how}", value.what());
            Err(Refusal::new(TemplateFault::Structure, reason))
        };
        let slot = match (value, self.output.sink) {
            (Value::Printed(Printed { text, .. }), _) => return self.write(text, false),
            (Value::Nil, _) => return no_text("give a value instead: … | default \"…\""),
            (_, None) => {
                let text = format::plain(self.heap, value)?;
                return self.write(&text, false);
            }
            (Value::List(_) | Value::Map(_), _) => {
                return no_text("print what is in it, or all of it: … | toYaml | nindent 2, or … | toJson");
            }
            (Value::Text(text), Some(sink)) => {
                sink.whole(text)?;
                (sink, Slot::Text(Arc::clone(text)))
            }
            (scalar, Some(sink)) => (sink, Slot::Plain(json_scalar(scalar)?)),
        };
        let (sink, slot) = slot;
        let char = sink.put(slot)?;
        self.write(char.encode_utf8(&mut [0; 4]), false)
    }

    fn branch(&mut self, branch: &'r Branch, dot: &Value, with: bool) -> Result<Flow, Refusal> {
        let scope = self.variables.len();
        let value = self.pipeline(&branch.pipeline, dot)?;
        let flow = if self.heap.truth(&value) {
            self.nodes(&branch.body, if with { &value } else { dot })?
        } else {
            self.nodes(&branch.otherwise, dot)?
        };
        self.variables.truncate(scope);
        Ok(flow)
    }

    fn range(&mut self, branch: &'r Branch, dot: &Value) -> Result<Flow, Refusal> {
        let scope = self.variables.len();
        let over = self.pipeline(&branch.pipeline, dot)?;
        let pairs: Vec<(Value, Value)> = match &over {
            Value::Nil => Vec::new(),
            Value::List(list) => {
                self.heap.charge(self.heap.items(*list).len())?;
                let items = self.heap.items(*list).iter().enumerate();
                items.map(|(index, item)| (Value::Int(index as i128), item.clone())).collect()
            }
            Value::Map(map) => {
                self.heap.charge(self.heap.entries(*map).len())?;
                let entries = self.heap.entries(*map).iter();
                entries.map(|(key, item)| (Value::Text(Arc::clone(key)), item.clone())).collect()
            }
            Value::Int(_) if branch.pipeline.variables.len() > 1 => {
                return Err(wrong("range over a number declares one variable"));
            }
            Value::Int(number) => {
                let count = usize::try_from((*number).max(0)).unwrap_or(usize::MAX);
                self.heap.charge(count)?;
                (0..count).map(|index| (Value::Nil, Value::Int(index as i128))).collect()
            }
            other => return Err(wrong(format!("range cannot go over {}", other.what()))),
        };
        if pairs.is_empty() {
            self.variables.truncate(scope);
            return self.nodes(&branch.otherwise, dot);
        }
        let within = self.variables.len();
        for (index, item) in pairs {
            self.heap.charge(1)?;
            self.line = branch.pipeline.line;
            let names = branch.pipeline.variables.as_slice();
            let values = if names.len() > 1 { vec![index, item.clone()] } else { vec![item.clone()] };
            for (name, value) in names.iter().zip(values) {
                self.set(name, value)?;
            }
            let flow = self.nodes(&branch.body, &item)?;
            self.variables.truncate(within);
            if flow == Flow::Break {
                break;
            }
        }
        self.variables.truncate(scope);
        Ok(Flow::On)
    }

    fn template(&mut self, name: &str, argument: Option<&'r Pipeline>, dot: &Value) -> Result<(), Refusal> {
        let value = match argument {
            Some(pipeline) => self.pipeline(pipeline, dot)?,
            None => Value::Nil,
        };
        let tree = self.tree;
        let Some(nodes) = tree.definitions.get(name) else {
            return Err(wrong(format!("there is no template {name:?}; define it in this text")));
        };
        let (frame, line) = (self.frame, self.line);
        self.frame = self.variables.len();
        self.variables.push(("$", value.clone()));
        self.nodes(nodes, &value)?;
        self.variables.truncate(self.frame);
        (self.frame, self.line) = (frame, line);
        Ok(())
    }

    fn pipeline(&mut self, pipeline: &'r Pipeline, dot: &Value) -> Result<Value, Refusal> {
        self.enter()?;
        let mut value = None;
        for command in &pipeline.commands {
            self.line = command.line;
            value = Some(self.command(command, dot, value)?);
        }
        let value = value.unwrap_or(Value::Nil);
        match pipeline.variables.as_slice() {
            // Those of a range are set anew for each item; until then they hold what it goes over.
            [name] => self.declare(name, pipeline.assigns, value.clone())?,
            [first, second] => {
                self.declare(first, pipeline.assigns, value.clone())?;
                self.declare(second, pipeline.assigns, value.clone())?;
            }
            _ => {}
        }
        self.depth -= 1;
        Ok(value)
    }

    fn declare(&mut self, name: &'r str, assigns: bool, value: Value) -> Result<(), Refusal> {
        if assigns {
            return self.set(name, value);
        }
        self.variables.push((name, value));
        Ok(())
    }

    fn set(&mut self, name: &str, value: Value) -> Result<(), Refusal> {
        let frame = self.variables.get_mut(self.frame..).unwrap_or_default();
        match frame.iter_mut().rev().find(|(it, _)| *it == name) {
            Some((_, old)) => {
                *old = value;
                Ok(())
            }
            None => Err(wrong(format!("the variable {name} is not declared here"))),
        }
    }

    fn variable(&self, name: &str) -> Result<Value, Refusal> {
        let frame = self.variables.get(self.frame..).unwrap_or_default();
        let found = frame.iter().rev().find(|(it, _)| *it == name);
        found
            .map(|(_, value)| value.clone())
            .ok_or_else(|| wrong(format!("the variable {name} is not declared here")))
    }

    fn command(&mut self, command: &'r Command, dot: &Value, last: Option<Value>) -> Result<Value, Refusal> {
        let Some((first, rest)) = command.operands.split_first() else {
            return Err(wrong("a command is empty"));
        };
        match first {
            Operand::Function(name) => return self.call(name, rest, dot, last),
            Operand::Nil => return Err(wrong("nil is no command")),
            _ => {}
        }
        if !rest.is_empty() || last.is_some() {
            let what = match first {
                Operand::Field(names) => format!(".{}", names.join(".")),
                Operand::Variable { name, .. } => name.clone(),
                _ => "a value".to_owned(),
            };
            return Err(wrong(format!("{what} is no function, and takes no arguments")));
        }
        self.operand(first, dot)
    }

    fn operand(&mut self, operand: &'r Operand, dot: &Value) -> Result<Value, Refusal> {
        self.heap.charge(1)?;
        Ok(match operand {
            Operand::Dot => dot.clone(),
            Operand::Nil => Value::Nil,
            Operand::Bool(flag) => Value::Bool(*flag),
            Operand::Int(number) => Value::Int((*number).into()),
            Operand::Float(number) => Value::Float(*number),
            Operand::Text(text) => self.heap.text(text.as_str())?,
            Operand::Field(names) => self.fields(dot.clone(), names, true)?,
            Operand::Variable { name, fields } => {
                let value = self.variable(name)?;
                self.fields(value, fields, name == "$")?
            }
            Operand::Function(name) => self.call(name, &[], dot, None)?,
            Operand::Parentheses(pipeline) => self.pipeline(pipeline, dot)?,
            Operand::Chain { of, fields } => {
                let value = self.operand(of, dot)?;
                self.fields(value, fields, false)?
            }
        })
    }

    /// What names lead to. A key that is not there is an error, as with Go's `missingkey=error`.
    fn fields(&mut self, mut value: Value, names: &[String], from_root: bool) -> Result<Value, Refusal> {
        for (index, name) in names.iter().enumerate() {
            self.heap.charge(1)?;
            let path = || {
                let path = names.get(..=index).unwrap_or_default().join(".");
                if from_root { format!(".{path}") } else { format!("the field .{path}") }
            };
            value = match value {
                Value::Map(map) => match self.heap.entries(map).get(name.as_str()) {
                    Some(value) => value.clone(),
                    None => {
                        let reason = format!(
                            "{} does not exist; ask for it with hasKey, or with index, which gives nil, for `if` and \
                             `default`",
                            path()
                        );
                        return Err(Refusal::new(TemplateFault::Undefined, reason));
                    }
                },
                other => {
                    let reason = format!("{} is asked of {}, which has no fields", path(), other.what());
                    return Err(Refusal::new(TemplateFault::Undefined, reason));
                }
            };
        }
        Ok(value)
    }

    fn call(
        &mut self,
        name: &str,
        operands: &'r [Operand],
        dot: &Value,
        last: Option<Value>,
    ) -> Result<Value, Refusal> {
        if functions::LAZY.contains(&name) {
            return self.logic(name == "or", operands, dot, last);
        }
        let Some(function) = functions::find(name) else {
            return Err(wrong(format!("there is no function {name:?}")));
        };
        let mut values = Vec::with_capacity(operands.len() + 1);
        for operand in operands {
            values.push(self.operand(operand, dot)?);
        }
        values.extend(last);
        self.finish(name, function, operands, &values)
    }

    fn finish(
        &mut self,
        name: &str,
        function: Function,
        operands: &[Operand],
        values: &[Value],
    ) -> Result<Value, Refusal> {
        let mut call = Call { heap: self.heap, sink: self.output.sink };
        function.call(&mut call, values).map_err(|refusal| match (name, operands) {
            // A message that the template itself holds shows no value.
            ("fail" | "required", [Operand::Text(message), ..])
                if refusal.fault == TemplateFault::Evaluation =>
            {
                wrong(format!("{name}: {message}"))
            }
            _ => refusal,
        })
    }

    /// `and` and `or`: the first argument that decides.
    fn logic(
        &mut self,
        or: bool,
        operands: &'r [Operand],
        dot: &Value,
        last: Option<Value>,
    ) -> Result<Value, Refusal> {
        let mut value = None;
        for operand in operands {
            let next = self.operand(operand, dot)?;
            if self.heap.truth(&next) == or {
                return Ok(next);
            }
            value = Some(next);
        }
        let name = if or { "or" } else { "and" };
        last.or(value).ok_or_else(|| wrong(format!("{name}: takes at least 1 arguments, not 0")))
    }
}

fn wrong(reason: impl Into<String>) -> Refusal {
    Refusal::new(TemplateFault::Evaluation, reason)
}
