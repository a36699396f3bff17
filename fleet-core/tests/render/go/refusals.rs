//! What Go templates may not do, and how that is told.

use fleet_core::render::{GoPasses, TemplateFault, TemplateKind};
use serde_json::json;

use super::{compile, refuses, render_in};
use crate::setting::Setting;

use TemplateFault::{Evaluation, Limit, Structure, Syntax, Undefined};

#[test]
fn each_mistake_has_one_clear_error() {
    for (x, fault, reason) in [
        // What does not exist.
        ("{{ .CloudEvent.nope }}", Undefined, ".CloudEvent.nope does not exist"),
        ("{{ .CloudEvent.data.nope.deeper }}", Undefined, ".CloudEvent.data.nope does not exist"),
        ("{{ .CloudEvent.subject.x }}", Undefined, ".CloudEvent.subject.x is asked of a string"),
        ("{{ .CloudEvent.data.nothing.x }}", Undefined, "is asked of nil"),
        ("{{ (dict \"a\" 1).b }}", Undefined, "the field .b does not exist"),
        ("{{ .MatchingResource.name }}", Undefined, "those of an EventSource with resourceSelectors do"),
        ("{{ .CloudEvents }}", Undefined, "only where a trigger has oneForEvent: false"),
        ("{{ .nope }}", Undefined, ".nope does not exist"),
        // What cannot be printed.
        ("{{ .CloudEvent.data.nothing }}", Structure, "nil is printed"),
        ("{{ .CloudEvent.data.list }}", Structure, "toYaml | nindent"),
        ("{{ .CloudEvent.data.map }}", Structure, "a map is printed"),
        ("{{ index .CloudEvent.data \"nope\" }}", Structure, "default"),
        // What cannot be made of printed text.
        (
            "{{ toYaml .CloudEvent.data | upper }}",
            Structure,
            "upper cannot work on text that was printed before",
        ),
        ("{{ printf \"%s\" (toJson .CloudEvent.data) }}", Structure, "printf cannot work"),
        ("{{ quote .CloudEvent.subject | b64enc }}", Structure, "b64enc cannot work"),
        ("{{ list (quote .CloudEvent.subject) }}", Structure, "list cannot work"),
        ("{{ quote .CloudEvent.data.map }}", Evaluation, "use toJson before"),
        // Where no value may stand.
        ("{ {{ .CloudEvent.subject }}: 1}", Structure, "printed keys are allowed only under labels"),
        ("&{{ .CloudEvent.subject }} 1", Structure, "an anchor must not be printed"),
        (
            "{labels: { {{ .CloudEvent.subject }}: 1, {{ .CloudEvent.subject }}: 1}}",
            Structure,
            "a printed key comes twice",
        ),
        ("!!int {{ .CloudEvent.subject }}", Structure, "cannot be read as !!int"),
        ("1\nkind: {{ .CloudEvent.subject }}", Structure, "kind must be written in the template"),
        // What functions refuse.
        ("{{ upper .CloudEvent.data.int }}", Evaluation, "upper: argument 1 must be a string, not a number"),
        ("{{ trunc \"a\" \"b\" }}", Evaluation, "trunc: argument 1 must be a whole number, not a string"),
        ("{{ first 1 }}", Evaluation, "first: argument 1 must be a list, not a number"),
        ("{{ get list \"a\" }}", Evaluation, "get: argument 1 must be a map, not a list"),
        ("{{ upper }}", Evaluation, "upper: takes 1 arguments, not 0"),
        ("{{ add1 1 2 }}", Evaluation, "add1: takes 1 arguments, not 2"),
        ("{{ round 1 }}", Evaluation, "round: takes 2 to 3 arguments, not 1"),
        ("{{ eq 1 }}", Evaluation, "eq: takes at least 2 arguments, not 1"),
        ("{{ and }}", Evaluation, "and: takes at least 1"),
        ("{{ eq 1 \"1\" }}", Evaluation, "a number and a string cannot be compared"),
        ("{{ lt true false }}", Evaluation, "cannot be compared"),
        ("{{ div 1 0 }}", Evaluation, "divides by zero"),
        ("{{ mul 9223372036854775807 2 }}", Evaluation, "does not fit in 64 bits"),
        ("{{ index .CloudEvent.data.list 9 }}", Evaluation, "argument 2 is beyond the end"),
        ("{{ index 5 1 }}", Evaluation, "a number has no elements"),
        ("{{ slice .CloudEvent.data.list 5 }}", Evaluation, "asked for more than there is"),
        ("{{ regexMatch \"(\" \"a\" }}", Evaluation, "no regular expression"),
        ("{{ semverCompare \"?\" \"1.2.3\" }}", Evaluation, "argument 1 is no constraint"),
        ("{{ semverCompare \">1\" \"a\" }}", Evaluation, "argument 2 is no version"),
        ("{{ b64dec \"?\" }}", Evaluation, "the text is not base64"),
        ("{{ fromYaml \"[\" }}", Evaluation, "fromYaml: line 1 is not YAML"),
        ("{{ fromYaml \"[1]\" }}", Evaluation, "fromYaml: the text holds a list"),
        ("{{ fromJson \"{\" }}", Evaluation, "fromJson: line 1, column 1 is not JSON"),
        ("{{ fail \"stop here\" }}", Evaluation, "fail: stop here"),
        ("{{ required \"name it\" \"\" }}", Evaluation, "required: name it"),
        ("{{ fail .CloudEvent.subject }}", Evaluation, "its message is not shown"),
        ("{{ getResource \"x\" }}", Evaluation, "templateResourceRefs"),
        ("{{ getField \"x\" \"spec.a\" }}", Evaluation, "templateResourceRefs"),
        ("{{ printf \"%[2]d\" 1 2 }}", Evaluation, "explicit argument indexes"),
        // What is no command.
        ("{{ nil }}", Evaluation, "nil is no command"),
        ("{{ .CloudEvent.id 1 }}", Evaluation, ".CloudEvent.id is no function"),
        ("{{ template \"nope\" }}", Evaluation, "there is no template \"nope\""),
        ("{{ range .CloudEvent.id }}{{ end }}", Evaluation, "range cannot go over a string"),
        ("{{ range $i, $e := 3 }}{{ end }}", Evaluation, "declares one variable"),
        // What is no template.
        ("{{ upper .x", Syntax, "not a Go template: an action is not closed"),
        ("{{ if .x }}", Syntax, "expected {{ end }} of if"),
        ("{{ end }}", Syntax, "{{ end }} belongs to nothing"),
        ("{{ nope 1 }}", Syntax, "there is no function \"nope\""),
        ("{{ env \"HOME\" }}", Syntax, "env is left out on purpose"),
        ("{{ expandenv \"$HOME\" }}", Syntax, "expandenv is left out on purpose"),
        ("{{ getHostByName \"a\" }}", Syntax, "asks the network"),
        ("{{ now }}", Syntax, "clock or time zone"),
        ("{{ uuidv4 }}", Syntax, "random values"),
        ("{{ genCA \"a\" 1 }}", Syntax, "makes secrets"),
        ("{{ html \"a\" }}", Syntax, "escapes for another language"),
        ("{{ setField 1 2 3 }}", Syntax, "would be structure made of data"),
        ("{{ include \"x\" . }}", Syntax, "there is no function \"include\""),
        ("{{ $x }}", Syntax, "the variable $x is not declared"),
        ("{{ 1 | 2 }}", Syntax, "what follows a | must be a function"),
        ("{{ \"\\q\" }}", Syntax, "an escape that Go does not know"),
        ("{{ 'ab' }}", Syntax, "holds one character"),
        ("{{ \u{f0000} }}", Syntax, "is unexpected in an action"),
        ("{{ break }}", Syntax, "outside of a range"),
        ("{{ if 1 }}{{ define \"a\" }}{{ end }}{{ end }}", Syntax, "at the top of the template"),
    ] {
        let error = refuses(x, fault, reason);
        let lines = if fault == Syntax || x.starts_with("1\n") { 4..=6 } else { 4..=4 };
        assert!(error.line.is_some_and(|line| lines.contains(&line)), "{x}: {error}");
        assert!(error.to_string().starts_with("ConfigMap default/t, key a.yaml, line "), "{error}");
    }
    let error = render_in(&Setting::default(), GoPasses::Cluster, "", "{{ .CloudEvent.id }}").unwrap_err();
    assert!(error.reason.contains("projectsveltos.io/instantiate"), "{error}");
    let together = compile(TemplateKind::Manifests, GoPasses::Event, "{{ .CloudEvent.id }}").unwrap();
    let error = Setting::render_together(&[Setting::default()], &*together).unwrap_err();
    assert!(error.reason.contains("{{ range .CloudEvents }}"), "{error}");
    let identity = compile(
        TemplateKind::Manifests,
        GoPasses::Event,
        "apiVersion: v1\nkind: {{ .CloudEvent.id }}\nmetadata: {name: a}\n",
    );
    let error = Setting::default().render_compiled(&*identity.unwrap()).unwrap_err();
    assert!(error.reason.contains("kind must be written in the template"), "{error}");
}

#[test]
fn in_the_second_pass_printed_values_stand_in_strings_only() {
    for (x, fault, reason) in [
        ("{{ \"{{\" }} {{ .CloudEvent.subject }} {{ \"}}\" }}", Syntax, "may only stand within a string"),
        (
            "{{ \"{{ .Cluster.\" }}{{ .CloudEvent.subject }} {{ \"}}\" }}",
            Syntax,
            "may only stand within a string",
        ),
        (
            "{{ \"{{ upper\" }}{{ .CloudEvent.subject }} {{ \"}}\" }}",
            Syntax,
            "may only stand within a string",
        ),
        ("{{ \"{{ '\" }}{{ .CloudEvent.data.map | toJson }}{{ \"' }}\" }}", Syntax, "holds one character"),
        (
            "{{ \"{{ .Cluster.metadata.labels.nope }}\" }}",
            Undefined,
            ".Cluster.metadata.labels.nope does not exist",
        ),
        ("{{ \"{{ .CloudEvent.id }}\" }}", Undefined, "projectsveltos.io/instantiate"),
        ("{{ \"{{ \\\"\\\\U00100000\\\" }}\" }}", Syntax, "an escape in a string"),
    ] {
        let x = format!("{x}{{{{ .CloudEvent.data.text }}}}");
        let error = render_in(&Setting::default(), GoPasses::Both, "", &x).unwrap_err();
        assert_eq!((error.fault, error.line), (fault, Some(4)), "{x}: {error}");
        assert!(error.reason.contains(reason), "{x}: {error}");
    }
    // Lines are those of the text that was written, also behind loops of the first pass.
    let text = "{{ range (list 1 2 3) }}\n# a\n# b\n{{ end }}\n{{ `{{ .nope }}` }}\n";
    let template = compile(TemplateKind::Manifests, GoPasses::Both, text).unwrap();
    assert_eq!(Setting::default().render_compiled(&*template).unwrap_err().line, Some(5));
    let text =
        "{{ range (list 1 2 3) }}\n# a\n{{ end }}\n{{ `{{ if true }}` }}\na: 1\na: 2\n{{ `{{ end }}` }}\n";
    let template = compile(TemplateKind::Manifests, GoPasses::Both, text).unwrap();
    assert_eq!(Setting::default().render_compiled(&*template).unwrap_err().line, Some(6));
}

#[test]
fn errors_name_the_line_of_the_template() {
    for (text, line) in [
        ("a\n{{ .x", 2),
        ("a\n\n{{ if .Trigger }}", 3),
        ("a\n{{/* x\ny */}}\n{{ nope }}", 4),
        ("apiVersion: v1\nkind: A\nmetadata:\n  name: a\n  b: {{ .nope }}\n", 5),
        ("{{ range (list 1 2 3) }}{{ . }}\n\n{{ end }}{{ .nope }}", 3),
        ("{{ define \"m\" }}\n{{ .nope }}{{ end }}\n{{ template \"m\" . }}", 2),
        ("{{ .Trigger.name\n | upper\n | nindent \"a\" }}", 3),
        ("{{ range (until 10) }}\n# x\n# y\n{{ end }}\nkind: [\n", 5),
        ("a: 1\n{{- range (until 10) }}\n# x\n{{- end }}\nb: c: d\n", 5),
        ("{{ range (until 10) }}\na{{ . }}:\n  - x: 1\n    x: 2\n{{ end }}", 2),
        (
            "# c\n{{ if true }}\n{{ end }}\napiVersion: v1\nkind: A\nmetadata:\n  labels: {}\n  name: ../x\n",
            8,
        ),
        ("{{ $x := 1 }}\napiVersion: v1\nkind: A\nmetadata:\n  name: a\n  labels:\n    a: {{ 1 }}\n", 6),
    ] {
        let error = compile(TemplateKind::Manifests, GoPasses::Event, text)
            .and_then(|template| Setting::default().render_compiled(&*template))
            .unwrap_err();
        assert_eq!(error.line, Some(line), "{text:?}: {error}");
    }
}

#[test]
fn errors_show_no_values() {
    let secret = "s3cr3t";
    let setting = Setting::with(json!({"s": secret, "list": [secret], "map": {secret: secret}, "n": 31337}));
    for call in [
        "add1 1 S",
        "index L S",
        "index M S N",
        "M",
        "L",
        "eq S N",
        "lt M S",
        "div N 0",
        "upper N",
        "get L S",
        "trunc S S",
        "slice L N",
        "index L N",
        "semverCompare S S",
        "semverCompare \">1\" S",
        "regexMatch \"(\" S",
        "regexMatch (print \"(\" S) S",
        "b64dec (print S \"?\")",
        "fromYaml (print \"[\" S)",
        "fromJson S",
        "fromYaml S",
        "fail S",
        "required S \"\"",
        "getResource S",
        "getField \"r\" S",
        "getField S \"a\"",
        "printf \"%[1]d\" S",
        "dig S \"a\" \"b\" L",
        "(dict S 1).a",
        "until (mul N N N N)",
        "repeat N S | repeat N",
        "ternary 1 2 S",
        "toYaml S | upper",
        "quote M",
        "merge L M",
        "nindent S S",
        "template",
    ] {
        let call = call.replace('S', ".CloudEvent.data.s").replace('L', ".CloudEvent.data.list");
        let call = call.replace('M', ".CloudEvent.data.map").replace('N', ".CloudEvent.data.n");
        let x = format!("{{{{ {call} }}}}");
        match render_in(&setting, GoPasses::Event, "", &x) {
            Ok(found) => panic!("{x} gave {found}"),
            Err(error) => {
                let shown = format!("{error} {error:?}");
                assert!(!shown.contains(secret) && !shown.contains("31337"), "{x}: {shown}");
            }
        }
    }
    for x in [
        "!!int {{ .CloudEvent.data.s }}",
        "{ {{ .CloudEvent.data.s }}: 1}",
        "&{{ .CloudEvent.data.s }} 1",
        "[*{{ .CloudEvent.data.s }}]",
        "{labels: { {{ .CloudEvent.data.s }}: 1, {{ .CloudEvent.data.s }}: 1}}",
    ] {
        let error = render_in(&setting, GoPasses::Event, "", x).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(secret), "{x}: {error}");
    }
    let error = render_in(
        &setting,
        GoPasses::Both,
        "",
        "{{ \"{{ nope \\\"\" }}{{ .CloudEvent.data.s }}{{ \"\\\" }}\" }}",
    );
    assert!(!format!("{error:?}").contains(secret), "{error:?}");
}

#[test]
fn work_and_size_are_limited() {
    for x in [
        "{{ range (until 100000) }}{{ range (until 100000) }}{{ end }}{{ end }}",
        "{{ range 1000000000 }}{{ end }}",
        "{{ until 1000000000 }}",
        "{{ seq 1 1000000000 }}",
        "{{ repeat 900000000 \"x\" }}",
        "{{ printf \"%900000000d\" 1 }}",
        "{{ indent 900000000 \"x\" }}",
        "{{ $x := \"x\" }}{{ range (until 64) }}{{ $x = print $x $x }}{{ end }}",
        "{{ $x := list 1 }}{{ range (until 64) }}{{ $x = concat $x $x }}{{ end }}",
        "{{ $x := \"xx\" }}{{ range (until 64) }}{{ $x = replace \"x\" $x $x }}{{ end }}",
        "{{ $x := \"xx\" }}{{ range (until 64) }}{{ $x = regexReplaceAll \".*\" $x \"$0$0\" }}{{ end }}",
        "{{ define \"r\" }}{{ template \"r\" . }}{{ end }}{{ template \"r\" . }}",
        "{{ define \"r\" }}{{ template \"r\" . }}{{ template \"r\" . }}{{ end }}{{ template \"r\" . }}",
        "{{ $d := dict }}{{ range (until 1000) }}{{ $d = dict \"a\" $d }}{{ end }}{{ toYaml $d }}",
        "{{ $d := dict }}{{ range (until 64) }}{{ $d = dict \"a\" $d \"b\" $d }}{{ end }}{{ toYaml $d }}",
        "{{ $d := dict }}{{ $_ := set $d \"a\" $d }}{{ toYaml $d }}",
        "{{ $d := dict }}{{ $_ := set $d \"a\" $d }}{{ print $d }}",
        "{{ $d := dict }}{{ $_ := set $d \"a\" $d }}{{ deepCopy $d }}",
        "{{ $d := dict }}{{ $e := dict }}{{ $_ := set $d \"a\" $d }}{{ $_ := set $e \"a\" $e }}{{ merge $d $e }}",
        "{{ $d := dict }}{{ $e := dict }}{{ $_ := set $d \"a\" $d }}{{ $_ := set $e \"a\" $e }}{{ deepEqual $d $e }}",
        "{{ until 100000 | toJson }}",
        "{{ $t := repeat 1000000 \"x\" }}{{ range 100000 }}{{ $_ := contains \"y\" $t }}{{ end }}",
        "{{ $l := until 100000 }}{{ range 100000 }}{{ $_ := has 0 $l }}{{ end }}",
        "{{ $l := until 100000 }}{{ $m := prepend (rest $l) 1 }}{{ range 100000 }}{{ $_ := deepEqual $l $m }}{{ end }}",
        "{{ splitList \"\" (repeat 2000000 \"x\") }}",
        "{{ range 10000 }}{{ $_ := regexMatch (print \"a{1000}\" .) \"b\" }}{{ end }}",
        "{{ $y := \"a: &a [1,1,1,1,1,1,1,1,1,1]\\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\\nd: \
         [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\" }}{{ range 1000 }}{{ $_ := fromYaml $y }}{{ end }}",
        "[{{ range (until 70000) }}{{ . }},{{ end }}]",
    ] {
        let error = render_in(&Setting::default(), GoPasses::Event, "", x).unwrap_err();
        assert_eq!(error.fault, Limit, "{x}: {error}");
    }
    let nested =
        |open: &str, close: &str, depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
    for (text, limit) in [
        (format!("{{{{ {} }}}}", nested("(", ")", 90)), false),
        (format!("{{{{ {} }}}}", nested("(", ")", 100_000)), true),
        (nested("{{ if 1 }}", "{{ end }}", 90), false),
        (nested("{{ if 1 }}", "{{ end }}", 100_000), true),
        (format!("{{{{ if 0 }}}}{}{{{{ end }}}}", "{{ else if 0 }}".repeat(100_000)), true),
    ] {
        let compiled = compile(TemplateKind::Text, GoPasses::Event, &text).map(|_| ());
        assert_eq!(compiled.is_err_and(|error| error.reason.contains("nests deeper than")), limit);
    }
    let long = Setting::with(json!({"s": "x".repeat(200_000)}));
    for x in [
        "'{{ range (until 1000) }}{{ $.CloudEvent.data.s }}{{ end }}'",
        "[{{ range (until 1000) }}{{ $.CloudEvent.data.s }},{{ end }}]",
        "[{{ range (until 1000) }}{{ $.CloudEvent.data.s | quote }},{{ end }}]",
    ] {
        assert_eq!(render_in(&long, GoPasses::Event, "", x).unwrap_err().fault, Limit, "{x}");
    }
}

#[test]
fn one_plane_is_needed() {
    let both = Setting::with(json!({"a": "\u{f0000}", "b": "\u{100000}"}));
    let error = render_in(&both, GoPasses::Event, "", "{{ .CloudEvent.data.a }}").unwrap_err();
    assert_eq!(error.fault, Limit);
    assert!(error.reason.contains("private-use characters"), "{error}");
    assert_eq!(
        render_in(&both, GoPasses::Event, "", "{{ .Trigger.name }}").unwrap(),
        json!("manage-namespace")
    );
    // An escape of the YAML must not pass for a value.
    let error =
        render_in(&Setting::with(json!({})), GoPasses::Event, "", "\"\\U000F0000{{ .Trigger.name }}\"");
    assert!(error.unwrap_err().reason.contains("an escape stands for"));
}
