//! Templates on the objects that `get` finds.

use super::*;
use serde_json::json;

fn data() -> Value {
    json!([
        {"apiVersion": "projectcalico.org/v3", "kind": "IPPoolList", "metadata": {"resourceVersion": "7"}, "items": [
            {"apiVersion": "projectcalico.org/v3", "kind": "IPPool",
             "metadata": {"name": "a", "labels": {"z": "1", "b": "2"}},
             "spec": {"cidr": "10.0.0.0/16", "natOutgoing": true, "blockSize": 26, "allowedUses": ["Workload", "Tunnel"]}},
            {"apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": {"name": "b"},
             "spec": {"cidr": "fd00::/64", "blockSize": 122}}
        ]}
    ])
}

fn rendered(template: &str) -> Result<String, TemplateError> {
    let configuration = BTreeMap::from([("asnumber".to_owned(), "64512".to_owned())]);
    Template::parse(template)?.render(&data(), &configuration)
}

#[track_caller]
fn check(template: &str, expected: &str) {
    assert_eq!(rendered(template).unwrap(), expected, "{template}");
}

#[track_caller]
fn refused(template: &str, part: &str) {
    let error = rendered(template).unwrap_err().to_string();
    assert!(error.contains(part), "{template}: {error}");
}

#[test]
fn fields_are_found_by_the_names_of_go_and_of_json() {
    let names =
        |field: &str| format!("{{{{range .}}}}{{{{range .Items}}}}{{{{{field}}}}},{{{{end}}}}{{{{end}}}}");
    check(&names(".ObjectMeta.Name"), "a,b,");
    check(&names(".metadata.name"), "a,b,");
    check(&names(".Name"), "a,b,");
    check(&names(".Spec.CIDR"), "10.0.0.0/16,fd00::/64,");
    check(&names(".Spec.NATOutgoing"), "true,false,");
    check(&names(".Spec.NodeSelector"), ",,");
    check(&names(".Spec.BlockSize"), "26,122,");
    check(&names(".Kind"), "IPPool,IPPool,");
    check("{{(index . 0).ListMeta.ResourceVersion}}", "7");
}

#[test]
fn ranges_have_variables_else_break_and_continue() {
    check(
        "{{range $i, $l := .}}{{range $n, $p := $l.Items}}{{$i}}{{$n}}{{$p.Name}} {{end}}{{end}}",
        "00a 01b ",
    );
    check(
        "{{range (index . 0).items}}{{range .Spec.AllowedUses}}{{.}};{{else}}none;{{end}}{{end}}",
        "Workload;Tunnel;none;",
    );
    check(
        "{{range (index . 0).items}}{{if eq .Name \"b\"}}{{break}}{{end}}{{.Name}}{{end}}",
        "a",
    );
    check(
        "{{range (index . 0).items}}{{if eq .Name \"a\"}}{{continue}}{{end}}{{.Name}}{{end}}",
        "b",
    );
    check(
        "{{range $k, $v := (index (index . 0).items 0).metadata.labels}}{{$k}}={{$v}},{{end}}",
        "b=2,z=1,",
    );
    check(
        "{{$n := 0}}{{range (index . 0).items}}{{$n = len .Spec.CIDR}}{{end}}{{$n}}",
        "9",
    );
    check("{{range 3}}{{.}}{{end}}", "012");
}

#[test]
fn choices_and_comparisons_follow_go() {
    check(
        "{{if and true (not false)}}yes{{end}}{{if or 0 \"\"}}no{{else if 1}}else{{end}}",
        "yeselse",
    );
    check(
        "{{with (index (index . 0).items 0).spec}}{{.cidr}}{{else}}none{{end}}",
        "10.0.0.0/16",
    );
    check(
        "{{with index (index (index . 0).items 1).metadata \"labels\"}}x{{else}}none{{end}}",
        "none",
    );
    check(
        "{{eq 1 2 1}} {{ne \"a\" \"b\"}} {{lt 1 2}} {{ge 2.5 2}} {{le \"a\" \"b\"}} {{gt 1 1}}",
        "true true true true true false",
    );
    check("{{or \"\" \"x\" | printf \"%s!\"}}", "x!");
}

#[test]
fn functions_join_print_and_slice() {
    check(
        "{{join (index (index . 0).items 0).spec.allowedUses \",\"}}",
        "Workload,Tunnel",
    );
    check(
        "{{joinAndTruncate (index (index . 0).items 0).spec.allowedUses \",\" 10}}",
        "Workloa...",
    );
    check("{{config \"asnumber\"}}", "64512");
    check(
        "{{printf \"%5d|%-4s|%05.1f|%q|%v|%x|%t|%3d%%\" 42 \"ab\" 3.14159 \"q\\\"\" true 255 false 7}}",
        "   42|ab  |003.1|\"q\\\"\"|true|ff|false|  7%",
    );
    check(
        "{{printf \"%d\" \"x\"}} {{printf \"%s\"}} {{printf \"a\" 1}}",
        "%!d(x) %!s(MISSING) a%!(EXTRA 1)",
    );
    check(
        "{{len \"abc\"}} {{slice \"abcdef\" 1 3}} {{index \"x\" | len}}",
        "3 bc 1",
    );
    check(
        "{{print 1 2 \"x\" 3}} {{html \"<a>\"}} {{urlquery \"a b&\"}}",
        "1 2x3 &lt;a&gt; a+b%26",
    );
    check(
        "{{(index (index . 0).items 0).spec.allowedUses}} {{(index (index . 0).items 0).metadata.labels}}",
        "[Workload Tunnel] map[b:2 z:1]",
    );
}

#[test]
fn text_is_trimmed_and_comments_vanish() {
    check("a \n {{- 1 -}} \n b {{- /* c */ -}} d{{/* e */}} f", "a1bd f");
    check("{{`raw \"x\"`}}{{\"\\u00e4\\n\"}}{{'a'}}", "raw \"x\"ä\n97");
}

#[test]
fn named_templates_are_called_with_their_dot() {
    check(
        "{{define \"pool\"}}<{{.Name}}>{{end}}{{range (index . 0).items}}{{template \"pool\" .}}{{end}}",
        "<a><b>",
    );
    check("{{block \"x\" 5}}[{{.}}]{{end}}", "[5]");
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    refused("a\n{{if true}}", "if without its end");
    refused("{{end}}", "end or else without a begin");
    refused("\n\n{{nonsense 1}}", "line 3: function \"nonsense\" not defined");
    refused("{{.x", "not ended");
    refused("{{\"x}}", "not ended");
    refused("{{$x}}", "no variable $x");
    refused("{{index . 9}}", "out of the list of 1");
    refused("{{template \"none\"}}", "no template \"none\"");
    refused(
        "{{define \"l\"}}{{template \"l\"}}{{end}}{{template \"l\"}}",
        "without end",
    );
    refused("{{break}}", "outside of a range");
    refused(&format!("{}{{{{1}}}}", "{{if 1}}".repeat(200)), "levels");
    refused(&format!("{{{{{}1}}}}", "(".repeat(200)), "levels");
    refused("{{lt 1 \"a\"}}", "cannot be compared");
    refused("{{1 2}}", "takes no arguments");
}

#[test]
fn a_template_cut_anywhere_never_panics() {
    let template = "{{define \"p\"}}{{- range $i, $e := .Items }}{{if and (eq $i 1) $e.x}}é{{printf \"%5.2f\" 1.5}}{{else}}\
                    {{`r`}}{{'\\n'}}{{end}}{{end -}}{{end}}{{template \"p\" (index . 0)}}";
    for (end, _) in template.char_indices() {
        let _ = rendered(&template[..end]);
        let _ = rendered(&template[end..]);
    }
}

#[test]
fn floats_print_as_in_go() {
    for (number, text) in [
        (1.5, "1.5"),
        (100.0, "100"),
        (1e21, "1e+21"),
        (1e20, "100000000000000000000"),
        (0.00001, "1e-05"),
    ] {
        assert_eq!(format::display(&json!(number)), text);
    }
    for (number, text) in [
        (0.0, "0"),
        (65536.0, "65536"),
        (1_048_576.0, "1.0486e+06"),
        (100_000.0, "1e+05"),
        (12.5, "12.5"),
    ] {
        assert_eq!(format::significant(number, 5), text);
    }
}
