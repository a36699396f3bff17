//! Go templates, written anew in minijinja.
//!
//! What is written means the same wherever it is rendered; what cannot be said in minijinja, or not for certain, is told
//! with its line.

mod functions;

use std::fmt::Write as _;

use fleet_core::gotemplate::ast::{Branch, Command, Node, Operand, Pipeline};
use fleet_core::gotemplate::parse;
use fleet_core::render::GoPasses;
use fleet_kube::api::KUBERNETES_VERSION_LABEL;
use fleet_kube::definitions::sveltos::VERSION_LABEL;

/// Something that has no translation.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Untranslated {
    /// The line in the template, counted from 1.
    pub(super) line: u32,
    /// What it is, and what to do.
    pub(super) reason: String,
}

/// Translates a template. Gives what it can of it even where something has no translation.
pub(super) fn translate(text: &str, passes: GoPasses) -> Result<String, Vec<Untranslated>> {
    let tree = parse(text).map_err(|error| {
        vec![Untranslated { line: error.line, reason: format!("is no Go template: {}", error.reason) }]
    })?;
    let mut writer = Writer {
        cluster: if passes == GoPasses::Cluster { "cluster" } else { "origin" },
        text: String::with_capacity(text.len()),
        faults: Vec::new(),
        scopes: vec![Vec::new()],
        loops: 0,
        arrivals: Vec::new(),
        names: 0,
        line: 1,
    };
    if passes == GoPasses::Both && text.contains("\"{{") {
        writer.fault(
            "writes a template for a second pass; say in one template what depends on the target cluster",
        );
    }
    if !tree.definitions.is_empty() {
        let names: Vec<&str> = tree.definitions.keys().map(String::as_str).collect();
        writer.fault(&format!(
            "defines {}; write it as a {{% macro %}}, or where it is used",
            names.join(", ")
        ));
    }
    writer.nodes(&tree.body, &Dot::Root);
    if writer.faults.is_empty() { Ok(writer.text) } else { Err(writer.faults) }
}

/// What the dot stands for.
#[derive(Clone, Debug)]
enum Dot {
    /// What the template was rendered with.
    Root,
    /// One of `.CloudEvents`: an event, and how it arrived.
    Arrival(String),
    /// Anything else, as an expression.
    Value(String),
}

struct Writer {
    /// What `.Cluster` is called.
    cluster: &'static str,
    text: String,
    faults: Vec<Untranslated>,
    /// The variables that can be seen, innermost scope last, and in how many loops each was declared.
    scopes: Vec<Vec<(String, usize)>>,
    /// In how many bodies of their own scope (`for`, `with`) we are.
    loops: usize,
    /// The variables that are one of `.CloudEvents`.
    arrivals: Vec<String>,
    /// How many names were made up.
    names: usize,
    /// Where we are.
    line: u32,
}

impl Writer {
    fn fault(&mut self, reason: &str) {
        let fault = Untranslated { line: self.line, reason: reason.to_owned() };
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }

    fn name(&mut self, kind: &str) -> String {
        self.names += 1;
        format!("{kind}{}", self.names)
    }

    fn nodes(&mut self, nodes: &[Node], dot: &Dot) {
        for node in nodes {
            self.node(node, dot);
        }
    }

    fn node(&mut self, node: &Node, dot: &Dot) {
        match node {
            Node::Text { text, line } => {
                self.line = *line;
                if ["{{", "{%", "{#"].iter().any(|tag| text.contains(tag)) {
                    if text.contains("endraw") {
                        self.fault("holds the word `endraw` beside braces, which minijinja cannot take as they stand");
                    }
                    self.text.push_str("{% raw %}");
                    self.text.push_str(text);
                    self.text.push_str("{% endraw %}");
                } else {
                    self.text.push_str(text);
                }
            }
            Node::Comment { text, .. } => {
                let _ = write!(self.text, "{{#{}#}}", text.replace("#}", "# }"));
            }
            Node::Action(pipeline) => self.action(pipeline, dot),
            Node::If(branch) => self.condition(branch, dot),
            Node::With(branch) => self.with(branch, dot),
            Node::Range(branch) => self.range(branch, dot),
            Node::Break => self.text.push_str("{% break %}"),
            Node::Continue => self.text.push_str("{% continue %}"),
            Node::Template { name, line, .. } => {
                self.line = *line;
                self.fault(&format!("calls the template {name:?}; write it as a {{% macro %}}, or here"));
            }
        }
    }

    fn action(&mut self, pipeline: &Pipeline, dot: &Dot) {
        self.line = pipeline.line;
        let value = self.pipeline(pipeline, dot);
        match pipeline.variables.as_slice() {
            [] => _ = write!(self.text, "{{{{ {} }}}}", unwrapped(&value)),
            [name, ..] => {
                let name = variable(name);
                if pipeline.assigns {
                    let declared = self.declared(&name);
                    if declared.is_none_or(|loops| loops != self.loops) {
                        self.fault(&format!(
                            "assigns to ${name} from within a range or with, which minijinja does not carry out of it; \
                             write it with a filter, or with {{% set %}} on a namespace()"
                        ));
                    }
                } else if let Some(scope) = self.scopes.last_mut() {
                    scope.push((name.clone(), self.loops));
                }
                let _ = write!(self.text, "{{% set {name} = {} %}}", unwrapped(&value));
            }
        }
    }

    fn declared(&self, name: &str) -> Option<usize> {
        let mut all = self.scopes.iter().rev().flat_map(|scope| scope.iter().rev());
        all.find(|(known, _)| known == name).map(|(_, loops)| *loops)
    }

    fn condition(&mut self, branch: &Branch, dot: &Dot) {
        self.line = branch.pipeline.line;
        if !branch.pipeline.variables.is_empty() {
            self.fault("declares a variable in an if; declare it before");
        }
        let condition = self.pipeline(&branch.pipeline, dot);
        let _ = write!(self.text, "{{% if {} %}}", unwrapped(&condition));
        self.scoped(&branch.body, dot);
        let mut otherwise = &branch.otherwise;
        // `else if` is an if within the else.
        while let [Node::If(next)] = otherwise.as_slice() {
            self.line = next.pipeline.line;
            let condition = self.pipeline(&next.pipeline, dot);
            let _ = write!(self.text, "{{% elif {} %}}", unwrapped(&condition));
            self.scoped(&next.body, dot);
            otherwise = &next.otherwise;
        }
        if !otherwise.is_empty() {
            self.text.push_str("{% else %}");
            self.scoped(otherwise, dot);
        }
        self.text.push_str("{% endif %}");
    }

    fn scoped(&mut self, nodes: &[Node], dot: &Dot) {
        self.scopes.push(Vec::new());
        self.nodes(nodes, dot);
        self.scopes.pop();
    }

    fn with(&mut self, branch: &Branch, dot: &Dot) {
        self.line = branch.pipeline.line;
        let value = self.pipeline(&branch.pipeline, dot);
        let name = match branch.pipeline.variables.as_slice() {
            [name, ..] => variable(name),
            [] => self.name("it"),
        };
        let _ = write!(self.text, "{{% with {name} = {} %}}{{% if {name} %}}", unwrapped(&value));
        self.loops += 1;
        self.scopes.push(vec![(name.clone(), self.loops)]);
        self.nodes(&branch.body, &Dot::Value(name));
        self.scopes.pop();
        if !branch.otherwise.is_empty() {
            self.text.push_str("{% else %}");
            self.scoped(&branch.otherwise, dot);
        }
        self.loops -= 1;
        self.text.push_str("{% endif %}{% endwith %}");
    }

    fn range(&mut self, branch: &Branch, dot: &Dot) {
        self.line = branch.pipeline.line;
        let over = self.pipeline(&branch.pipeline, dot);
        let arrivals = over == "events";
        let (names, list) = match branch.pipeline.variables.as_slice() {
            [key, item] if arrivals => (
                format!("{}, {}", variable(key), variable(item)),
                "range(events | length) | zip(events)".to_owned(),
            ),
            // A map gives its keys and values in the order of keys, a list its places and items.
            [key, item] => {
                let list = format!(
                    "(({over} | dictsort(case_sensitive=true)) if {over} is mapping else (range({over} | length) | zip({over})))"
                );
                (format!("{}, {}", variable(key), variable(item)), list)
            }
            [item] => (variable(item), items(&over, arrivals)),
            _ => (self.name("it"), items(&over, arrivals)),
        };
        let _ = write!(self.text, "{{% for {names} in {list} %}}");
        let item = names.rsplit(", ").next().unwrap_or(&names).to_owned();
        self.loops += 1;
        let declared = names.split(", ").map(|name| (name.to_owned(), self.loops)).collect();
        self.scopes.push(declared);
        let inner = if arrivals {
            self.arrivals.push(item.clone());
            Dot::Arrival(item)
        } else {
            Dot::Value(item)
        };
        self.nodes(&branch.body, &inner);
        if arrivals {
            self.arrivals.pop();
        }
        self.scopes.pop();
        self.loops -= 1;
        if !branch.otherwise.is_empty() {
            self.text.push_str("{% else %}");
            self.scoped(&branch.otherwise, dot);
        }
        self.text.push_str("{% endfor %}");
    }

    /// An expression, in parentheses where it needs any.
    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Dot) -> String {
        let mut value: Option<String> = None;
        for command in &pipeline.commands {
            value = Some(self.command(command, value, dot));
        }
        value.unwrap_or_default()
    }

    fn command(&mut self, command: &Command, piped: Option<String>, dot: &Dot) -> String {
        self.line = command.line;
        let Some((first, rest)) = command.operands.split_first() else { return String::new() };
        let mut arguments: Vec<String> = rest.iter().map(|operand| self.operand(operand, dot)).collect();
        arguments.extend(piped);
        match first {
            Operand::Function(name) => self.call(name, &arguments, rest),
            _ if arguments.is_empty() => self.operand(first, dot),
            _ => {
                self.fault("calls something that is no function");
                String::new()
            }
        }
    }

    fn operand(&mut self, operand: &Operand, dot: &Dot) -> String {
        match operand {
            Operand::Dot => match dot {
                Dot::Root => {
                    self.fault("uses everything (.) as a value; name the part that is meant");
                    String::new()
                }
                Dot::Arrival(item) => format!("{item}.event"),
                Dot::Value(value) => value.clone(),
            },
            Operand::Nil => "none".to_owned(),
            Operand::Bool(value) => value.to_string(),
            Operand::Int(value) => value.to_string(),
            Operand::Float(value) => format!("{value:?}"),
            // The label has another name on a Cluster of ours.
            Operand::Text(text) if text == VERSION_LABEL => quoted(KUBERNETES_VERSION_LABEL),
            Operand::Text(text) => quoted(text),
            Operand::Field(names) => self.fields(dot, names),
            Operand::Variable { name, fields } if name == "$" => self.fields(&Dot::Root, fields),
            Operand::Variable { name, fields } => {
                let name = variable(name);
                let is_arrival = self.arrivals.contains(&name);
                path(&if is_arrival { format!("{name}.event") } else { name }, fields)
            }
            Operand::Function(name) => self.call(name, &[], &[]),
            Operand::Parentheses(pipeline) => self.pipeline(pipeline, dot),
            // Of one that does not exist, a field is an error in both.
            Operand::Chain { of, fields } if resource(of).is_some() => {
                let identifier = resource(of).unwrap_or_default();
                path(&path("resources", &[identifier.to_owned()]), fields)
            }
            Operand::Chain { of, fields } => {
                let of = self.operand(of, dot);
                path(&of, fields)
            }
        }
    }

    /// What stands behind a dot.
    fn fields(&mut self, dot: &Dot, names: &[String]) -> String {
        let Dot::Root = dot else {
            return match dot {
                Dot::Arrival(item) => path(&format!("{item}.event"), names),
                Dot::Value(value) => path(value, names),
                Dot::Root => String::new(),
            };
        };
        let (first, rest) = names.split_first().map_or(("", names), |(first, rest)| (first.as_str(), rest));
        match (first, rest) {
            ("CloudEvent", rest) => path("event", rest),
            ("CloudEvents", []) => "events".to_owned(),
            ("Resource", rest) => path("resource", rest),
            ("MatchingResource", [field, rest @ ..]) => match field.as_str() {
                "apiVersion" | "kind" => path(&format!("resource.{field}"), rest),
                _ => path(&format!("resource.metadata.{field}"), rest),
            },
            ("Resources", []) => "(events | map(attribute=\"resource\") | list)".to_owned(),
            ("Message", rest) => path("message", rest),
            ("Trigger", rest) => path("trigger", rest),
            ("MgmtResources", rest) => path("resources", rest),
            ("Cluster", [metadata, field, rest @ ..])
                if metadata == "metadata"
                    && matches!(field.as_str(), "name" | "namespace" | "labels" | "annotations") =>
            {
                path(&format!("{}.{field}", self.cluster), rest)
            }
            ("Cluster", _) => {
                self.fault("uses more of .Cluster than metadata.name, namespace, labels and annotations; that is not there");
                String::new()
            }
            (other, _) => {
                self.fault(&format!(
                    ".{other} is not there; templates see event, resource, message, cluster, origin, resources and trigger"
                ));
                String::new()
            }
        }
    }
}

/// The identifier that an object of the management cluster is looked up by, if that is all the operand does.
fn resource(operand: &Operand) -> Option<&str> {
    let Operand::Parentheses(pipeline) = operand else { return None };
    let [Command { operands, .. }] = pipeline.commands.as_slice() else { return None };
    match operands.as_slice() {
        [Operand::Function(name), Operand::Text(identifier)] if name == "getResource" => Some(identifier),
        _ => None,
    }
}

/// What a loop without keys goes through: of a map, its values in the order of keys.
fn items(over: &str, arrivals: bool) -> String {
    match arrivals {
        true => over.to_owned(),
        false => format!(
            "(({over} | dictsort(case_sensitive=true) | map(\"last\")) if {over} is mapping else {over})"
        ),
    }
}

/// A variable without its `$`, and not named as anything that minijinja or the context has.
fn variable(name: &str) -> String {
    const TAKEN: [&str; 22] = [
        "resource",
        "event",
        "events",
        "message",
        "cluster",
        "origin",
        "resources",
        "trigger",
        "loop",
        "self",
        "range",
        "namespace",
        "dict",
        "true",
        "false",
        "none",
        "not",
        "and",
        "or",
        "in",
        "is",
        "if",
    ];
    let name = name.trim_start_matches('$');
    if TAKEN.contains(&name) { format!("{name}_") } else { name.to_owned() }
}

fn path(root: &str, fields: &[String]) -> String {
    let mut path = root.to_owned();
    for field in fields {
        let is_name = field.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && !field.starts_with(|c: char| c.is_ascii_digit());
        match is_name {
            true => _ = write!(path, ".{field}"),
            false => _ = write!(path, "[{}]", quoted(field)),
        }
    }
    path
}

/// A text as a literal.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for char in text.chars() {
        match char {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            char => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}

/// An expression without the parentheses around all of it.
fn unwrapped(expression: &str) -> &str {
    let Some(inner) = expression.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) else {
        return expression;
    };
    let (mut depth, mut in_text, mut escaped) = (0_i32, false, false);
    for char in inner.chars() {
        match char {
            _ if escaped => escaped = false,
            '\\' if in_text => escaped = true,
            '"' => in_text = !in_text,
            '(' if !in_text => depth += 1,
            ')' if !in_text => depth -= 1,
            _ => {}
        }
        if depth < 0 {
            return expression;
        }
    }
    inner
}
