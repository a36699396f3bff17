//! What a template reads of its context, in the engine's words: `event`, `message`, `cluster.labels.env`, `origin`.
//!
//! Whoever leaves out what is not read must be right, so this never says less than what is read; it may say more.

use std::collections::BTreeSet;

use super::ast::{Branch, Node, Operand, Pipeline, Tree};
use super::functions;
use crate::render::GoPasses;

/// What a tree reads.
pub(super) fn reads(tree: &Tree, passes: GoPasses) -> BTreeSet<String> {
    let event = passes != GoPasses::Cluster;
    let mut reader = Reader { event, paths: BTreeSet::new() };
    reader.nodes(&tree.body, true);
    for nodes in tree.definitions.values() {
        reader.nodes(nodes, true);
    }
    if passes == GoPasses::Both && may_make_actions(tree) {
        reader.all(false);
    }
    reader.paths
}

/// Whether what the first pass writes could be an action of the second. Values cannot: they are no text then.
fn may_make_actions(tree: &Tree) -> bool {
    fn any(nodes: &[Node]) -> bool {
        nodes.iter().any(|node| match node {
            Node::Text { text, .. } => text.contains('{'),
            Node::Action(pipeline) => {
                pipeline.as_text().is_some_and(|text| text.contains('{')) || {
                    // toJson begins with one.
                    pipeline.variables.is_empty()
                        && pipeline.as_text().is_none()
                        && prints_structure(pipeline)
                }
            }
            Node::If(branch) | Node::With(branch) | Node::Range(branch) => {
                any(&branch.body) || any(&branch.otherwise)
            }
            Node::Comment { .. } | Node::Break | Node::Continue | Node::Template { .. } => false,
        })
    }
    any(&tree.body) || tree.definitions.values().any(|nodes| any(nodes))
}

/// Whether a pipeline may print punctuation: a variable or the dot may hold it too, a field cannot.
fn prints_structure(pipeline: &Pipeline) -> bool {
    let is_field = |operands: &[Operand]| matches!(operands, [Operand::Field(_)]);
    !pipeline.commands.iter().all(|command| is_field(&command.operands))
}

struct Reader {
    /// Whether there is an event: `.Cluster` is then the origin, or the target where no origin is known.
    event: bool,
    paths: BTreeSet<String>,
}

impl Reader {
    /// `at_root` says that the dot may be the root.
    fn nodes(&mut self, nodes: &[Node], at_root: bool) {
        for node in nodes {
            match node {
                Node::Text { .. } | Node::Comment { .. } | Node::Break | Node::Continue => {}
                Node::Action(pipeline) => self.pipeline(pipeline, at_root),
                Node::If(Branch { pipeline, body, otherwise }) => {
                    self.pipeline(pipeline, at_root);
                    self.nodes(body, at_root);
                    self.nodes(otherwise, at_root);
                }
                Node::With(Branch { pipeline, body, otherwise })
                | Node::Range(Branch { pipeline, body, otherwise }) => {
                    self.pipeline(pipeline, at_root);
                    // A dot that is the root came by name, and counts as all of it already.
                    self.nodes(body, false);
                    self.nodes(otherwise, at_root);
                }
                // Definitions are looked through as if their dot were the root.
                Node::Template { argument: Some(pipeline), .. } if is_root(pipeline) => {}
                Node::Template { argument, .. } => {
                    if let Some(pipeline) = argument {
                        self.pipeline(pipeline, at_root);
                    }
                }
            }
        }
    }

    fn pipeline(&mut self, pipeline: &Pipeline, at_root: bool) {
        for operand in pipeline.commands.iter().flat_map(|command| &command.operands) {
            self.operand(operand, at_root);
        }
    }

    fn operand(&mut self, operand: &Operand, at_root: bool) {
        match operand {
            Operand::Dot if at_root => self.all(true),
            Operand::Variable { name, fields } if fields.is_empty() && name == "$" => self.all(true),
            Operand::Field(names) | Operand::Variable { fields: names, .. } => self.path(names),
            Operand::Function(name) if functions::LOOK_UP.contains(&name.as_str()) => {
                self.paths.insert("resources".to_owned());
            }
            Operand::Parentheses(pipeline) => self.pipeline(pipeline, at_root),
            Operand::Chain { of, fields } => {
                self.operand(of, at_root);
                self.path(fields);
            }
            _ => {}
        }
    }

    /// All there is to read; without the event's, what the second pass sees.
    fn all(&mut self, event: bool) {
        if event && self.event {
            self.paths.extend(["event", "events", "message", "origin"].map(str::to_owned));
        }
        self.paths.extend(["cluster", "resources", "trigger"].map(str::to_owned));
    }

    fn path(&mut self, names: &[String]) {
        let Some((root, rest)) = names.split_first() else { return };
        match root.as_str() {
            "CloudEvent" => {
                let path = match rest.first() {
                    Some(name) => format!("event.{name}"),
                    None => "event".to_owned(),
                };
                self.paths.insert(path);
            }
            "Resource" | "MatchingResource" => {
                self.paths.insert("event.data".to_owned());
            }
            "CloudEvents" | "Resources" | "MatchingResources" => {
                self.paths.insert("events".to_owned());
            }
            "Message" => {
                self.paths.insert("message".to_owned());
            }
            "MgmtResources" => {
                self.paths.insert("resources".to_owned());
            }
            "Trigger" => {
                self.paths.insert("trigger".to_owned());
            }
            "Cluster" => {
                let within = match rest {
                    [metadata, part, rest @ ..] if metadata == "metadata" => {
                        match (part.as_str(), rest.first()) {
                            ("labels" | "annotations", Some(key)) => format!(".{part}.{key}"),
                            _ => format!(".{part}"),
                        }
                    }
                    [kind] if kind == "kind" || kind == "apiVersion" => format!(".{kind}"),
                    _ => String::new(),
                };
                self.paths.insert(format!("cluster{within}"));
                if self.event {
                    self.paths.insert(format!("origin{within}"));
                }
            }
            _ => {}
        }
    }
}

fn is_root(pipeline: &Pipeline) -> bool {
    match pipeline.commands.as_slice() {
        [command] if pipeline.variables.is_empty() => match command.operands.as_slice() {
            [Operand::Dot] => true,
            [Operand::Variable { name, fields }] => name == "$" && fields.is_empty(),
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::*;

    fn paths(text: &str, passes: GoPasses) -> Vec<String> {
        reads(&parse(text).unwrap(), passes).into_iter().collect()
    }

    #[test]
    fn nothing_that_is_read_is_overlooked() {
        const EVERYTHING: &[&str] =
            &["cluster", "event", "events", "message", "origin", "resources", "trigger"];
        for (text, expected) in [
            ("a {{ 1 }} {{/* .Cluster */}}", &[][..]),
            ("{{ .CloudEvent.subject }}{{ .CloudEvent.data.a.b }}", &["event.data", "event.subject"]),
            ("{{ .Cluster.metadata.name }}", &["cluster.name", "origin.name"]),
            ("{{ .Cluster.metadata.labels.env | upper }}", &["cluster.labels.env", "origin.labels.env"]),
            ("{{ index .Cluster.metadata.labels \"env\" }}", &["cluster.labels", "origin.labels"]),
            (
                "{{ if (eq $.Cluster.metadata.annotations.a \"x\") }}{{ end }}",
                &["cluster.annotations.a", "origin.annotations.a"],
            ),
            ("{{ with .Cluster }}{{ .metadata.name }}{{ end }}", &["cluster", "origin"]),
            ("{{ with .Cluster.metadata }}{{ .labels }}{{ . }}{{ end }}", &["cluster", "origin"]),
            (
                "{{ range .CloudEvents }}{{ . }}{{ end }}{{ .Cluster.kind }}",
                &["cluster.kind", "events", "origin.kind"],
            ),
            ("{{ $x := . }}{{ $x.Message.subject }}", EVERYTHING),
            ("{{ $x := $ }}", EVERYTHING),
            ("{{ with $ }}{{ .Trigger.name }}{{ end }}", EVERYTHING),
            ("{{ toYaml . }}", EVERYTHING),
            ("{{ (index . \"Cluster\").metadata.name }}", EVERYTHING),
            ("{{ (dict \"a\" .Cluster).a.metadata.name }}", &["cluster", "origin"]),
            ("{{ $x := .Cluster.metadata.labels }}{{ $x.env }}", &["cluster.labels", "origin.labels"]),
            ("{{ define \"a\" }}{{ .Trigger.name }}{{ end }}{{ template \"a\" . }}", &["trigger"]),
            ("{{ define \"a\" }}{{ . }}{{ end }}{{ template \"a\" . }}", EVERYTHING),
            (
                "{{ define \"a\" }}{{ .metadata.name }}{{ end }}{{ template \"a\" .Cluster }}",
                &["cluster", "origin"],
            ),
            ("{{ template \"a\" (dict \"c\" .Message) }}", &["message"]),
            ("{{ block \"a\" .Cluster.metadata.labels }}{{ end }}", &["cluster.labels", "origin.labels"]),
            ("{{ range $k, $v := .CloudEvent }}{{ else }}{{ .Trigger }}{{ . }}{{ end }}", EVERYTHING),
        ] {
            assert_eq!(paths(text, GoPasses::Event), expected, "{text}");
        }
        for (text, expected) in [
            ("{{ .Cluster.metadata.labels.env }}", &["cluster.labels.env"][..]),
            ("{{ . }}", &["cluster", "resources", "trigger"]),
            ("{{ (getResource \"a\").data.k }}", &["resources"]),
            ("{{ with .MgmtResources }}{{ .a }}{{ end }}", &["resources"]),
        ] {
            assert_eq!(paths(text, GoPasses::Cluster), expected, "{text}");
        }
        for (text, expected) in [
            ("{{ .CloudEvent.id }}", &["event.id"][..]),
            (
                "{{ with toJson .CloudEvent.id }}{{ . }}{{ end }}",
                &["cluster", "event.id", "resources", "trigger"],
            ),
            ("{{ \"{{ .Cluster.metadata.name }}\" }}", &["cluster", "resources", "trigger"]),
            ("{ {{- /* */ -}} { .Cluster.metadata.name }}", &["cluster", "resources", "trigger"]),
            ("{{ define \"a\" }}{{ `{{` }} .Cluster }}{{ end }}", &["cluster", "resources", "trigger"]),
        ] {
            assert_eq!(paths(text, GoPasses::Both), expected, "{text}");
        }
    }
}
