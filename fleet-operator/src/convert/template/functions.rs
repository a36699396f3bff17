//! The functions of Go templates, as minijinja says them.

use fleet_core::gotemplate::ast::Operand;

use super::{Writer, path, quoted};

impl Writer {
    /// A call; `operands` are the arguments as they stand there, without the one that is piped in.
    pub(super) fn call(&mut self, name: &str, arguments: &[String], operands: &[Operand]) -> String {
        let filter = |filter: &str, of: &str| format!("({of} | {filter})");
        let joined = |by: &str| format!("({})", arguments.join(by));
        let constant = match operands.first() {
            Some(Operand::Text(text)) => Some(text.as_str()),
            _ => None,
        };
        match (name, arguments) {
            ("eq", [first, rest @ ..]) if !rest.is_empty() => {
                let any: Vec<String> = rest.iter().map(|other| format!("{first} == {other}")).collect();
                format!("({})", any.join(" or "))
            }
            ("ne", [_, _]) => joined(" != "),
            ("lt", [_, _]) => joined(" < "),
            ("le", [_, _]) => joined(" <= "),
            ("gt", [_, _]) => joined(" > "),
            ("ge", [_, _]) => joined(" >= "),
            ("and", [_, ..]) => joined(" and "),
            ("or" | "coalesce", [_, ..]) => joined(" or "),
            ("not" | "empty", [value]) => format!("(not {value})"),
            ("index", [of, keys @ ..]) if !keys.is_empty() => {
                let keys: Vec<String> = keys.iter().map(|key| format!("[{key}]")).collect();
                format!("{of}{}", keys.concat())
            }
            ("len", [of]) => filter("length", of),
            ("list", items) => format!("[{}]", items.join(", ")),
            ("dict", pairs) if pairs.len().is_multiple_of(2) => {
                let pairs: Vec<String> = pairs.chunks(2).map(|pair| pair.join(": ")).collect();
                format!("{{{}}}", pairs.join(", "))
            }
            ("print", [_, ..]) => joined(" ~ "),
            ("printf", [_, rest @ ..]) => self.printf(constant, rest),
            (
                "quote" | "squote" | "upper" | "lower" | "title" | "trim" | "reverse" | "first" | "last"
                | "int",
                [of],
            ) => filter(name, of),
            ("b64enc" | "b64dec", [of]) if !is_printed(of) => {
                filter(if name == "b64enc" { "b64encode" } else { "b64decode" }, of)
            }
            ("getResource", [_]) if constant.is_some() => {
                filter("default(none)", &path("resources", &[constant.unwrap_or_default().to_owned()]))
            }
            ("getField", [_, _]) => self.field(operands),
            ("getResource", [_]) => {
                self.fault(
                    "looks up an object by something else than a constant; write resources.<identifier>",
                );
                String::new()
            }
            ("toYaml", [of]) => filter("toyaml", of),
            ("toJson", [of]) => filter("tojson", of),
            ("int64" | "atoi", [of]) => filter("int", of),
            ("float64", [of]) => filter("float", of),
            ("toString", [of]) => filter("string", of),
            ("uniq", [of]) => filter("unique", of),
            ("sortAlpha", [of]) => filter("sort", of),
            ("nindent", [width, of]) => filter(&format!("nindent({width})"), of),
            ("indent", [width, of]) => filter(&format!("indent({width}, true)"), of),
            ("default", [otherwise, of]) => filter(&format!("default({otherwise}, true)"), of),
            ("replace", [old, new, of]) => filter(&format!("replace({old}, {new})"), of),
            ("splitList", [by, of]) => filter(&format!("split({by})"), of),
            ("join", [by, of]) => filter(&format!("join({by})"), of),
            ("contains", [part, of]) => format!("({part} in {of})"),
            ("hasPrefix", [start, of]) => format!("({of} is startingwith({start}))"),
            ("hasSuffix", [end, of]) => format!("({of} is endingwith({end}))"),
            ("hasKey", [of, key]) => format!("({key} in {of})"),
            ("has", [item, of]) => format!("({item} in {of})"),
            ("trunc", [width, of]) if width.parse::<u32>().is_ok() => format!("{of}[:{width}]"),
            ("trimPrefix", [start, of]) if constant.is_some() => {
                let length = constant.unwrap_or_default().chars().count();
                format!("({of}[{length}:] if {of} is startingwith({start}) else {of})")
            }
            ("trimSuffix", [end, of]) if constant.is_some_and(|text| !text.is_empty()) => {
                let length = constant.unwrap_or_default().chars().count();
                format!("({of}[:-{length}] if {of} is endingwith({end}) else {of})")
            }
            ("ternary", [yes, no, condition]) => format!("({yes} if {condition} else {no})"),
            ("add", [_, _, ..]) => joined(" + "),
            ("mul", [_, _, ..]) => joined(" * "),
            ("sub", [_, _]) => joined(" - "),
            ("mod", [_, _]) => joined(" % "),
            ("div", [_, _]) => joined(" // "),
            ("add1", [of]) => format!("({of} + 1)"),
            (name, arguments) => {
                self.fault(&format!(
                    "the function {name} (with {} arguments) has no counterpart here; say it in another way",
                    arguments.len()
                ));
                String::new()
            }
        }
    }

    /// A field of an object of the management cluster; an empty text, if anything on the way to it is not there.
    fn field(&mut self, operands: &[Operand]) -> String {
        let [Operand::Text(identifier), Operand::Text(fields)] = operands else {
            self.fault("looks up a field by something else than constants; write resources.<identifier> and its path");
            return String::new();
        };
        let mut names = std::iter::once(identifier.as_str()).chain(fields.split('.')).peekable();
        let mut found = "resources".to_owned();
        while let Some(name) = names.next() {
            let otherwise = if names.peek().is_some() { "{}" } else { "\"\"" };
            found = format!("({} | default({otherwise}))", path(&found, &[name.to_owned()]));
        }
        found
    }

    /// A format that only puts values in between texts.
    fn printf(&mut self, format: Option<&str>, arguments: &[String]) -> String {
        let mut parts: Vec<String> = Vec::new();
        let mut arguments = arguments.iter();
        let mut text = String::new();
        let mut chars = format.unwrap_or("%x").chars();
        while let Some(char) = chars.next() {
            if char != '%' {
                text.push(char);
                continue;
            }
            match (chars.next(), arguments.len()) {
                (Some('%'), _) => text.push('%'),
                (Some('s' | 'd' | 'v'), 1..) => {
                    if !text.is_empty() {
                        parts.push(quoted(&std::mem::take(&mut text)));
                    }
                    parts.extend(arguments.next().cloned());
                }
                _ => {
                    self.fault("uses printf otherwise than with a constant format of %s, %d and %v; join texts with ~");
                    return String::new();
                }
            }
        }
        if !text.is_empty() || parts.is_empty() {
            parts.push(quoted(&text));
        }
        if parts.len() == 1 {
            // What is joined is a text, whatever it was.
            parts.push("\"\"".to_owned());
        }
        format!("({})", parts.join(" ~ "))
    }
}

/// Whether it is text that was printed, which has no value to ask for.
fn is_printed(expression: &str) -> bool {
    ["| toyaml)", "| tojson)", "| quote)", "| squote)", "indent("]
        .iter()
        .any(|filter| expression.contains(filter))
}
