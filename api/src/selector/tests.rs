use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Node, Selector};

fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
    Selector::parse(selector).unwrap().matches(labels)
}

#[test]
fn negative_operators_match_without_the_label() {
    assert!(matches("a != 'x'", &[]));
    assert!(matches("a not in {'x'}", &[]));
    assert!(matches("a not in {}", &[]));
    for positive in [
        "a == ''",
        "a in {''}",
        "a contains ''",
        "a starts with ''",
        "a ends with ''",
        "has(a)",
    ] {
        assert!(!matches(positive, &[]), "{positive}");
        assert!(matches(positive, &[("a", "")]), "{positive}");
    }
}

#[test]
fn global_matches_what_is_in_no_namespace() {
    assert!(matches("global()", &[("a", "b")]));
    assert!(!matches("global()", &[("projectcalico.org/namespace", "n")]));
}

#[test]
fn errors_name_the_column() {
    for (text, reason, column) in [
        ("a = 'b'", "expected ==", 3),
        ("a == b", "expected string", 6),
        ("a == 'b", "unterminated string", 6),
        ("a in 'b'", "expected set literal", 6),
        ("a in {'b'", "expected }", 10),
        ("(a == 'b'", "expected )", 10),
        ("has(a", "no closing ')' after has(", 6),
        ("a == 'b' c", "unexpected content at end of selector", 10),
        ("a", "expected operator after label \"a\"", 2),
    ] {
        let error = Selector::parse(text).unwrap_err();
        assert_eq!((error.reason(), error.column()), (reason, column), "{text}");
    }
}

#[test]
fn a_selector_cut_anywhere_is_refused_at_a_column_within_it() {
    let text = "!(a == 'b' && has(c)) || d not in {\"x\", 'y'} && e starts with 'f' || all() && global()";
    let mut refused = 0;
    for end in 0..=text.len() {
        let cut = &text[..end];
        match Selector::parse(cut) {
            // What is left is a selector of its own: nothing, or whole terms.
            Ok(selector) => assert!(Selector::parse(selector.canonical()).is_ok(), "{cut}"),
            Err(error) => {
                refused += 1;
                assert!(
                    (1..=end + 1).contains(&error.column()),
                    "{cut}: column {}",
                    error.column()
                );
                assert!(error.to_string().contains(&error.column().to_string()), "{error}");
            }
        }
    }
    assert!(refused > 60, "{refused}");
}

#[test]
fn deep_nesting_is_refused_instead_of_overflowing() {
    let deep = format!("{}all(){}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(Selector::parse(&deep).unwrap_err().reason().contains("nested"));
    assert!(Selector::parse(&format!("{}all(){}", "(".repeat(500), ")".repeat(500))).is_ok());
}

#[test]
fn newlines_are_not_blanks() {
    assert!(Selector::parse("a ==\n'b'").is_err());
    assert!(Selector::parse("\ta\t==\t'b'\t").is_ok());
    assert_eq!(Selector::parse(" \t").unwrap().canonical(), "all()");
}

fn label() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("a".to_owned()),
        Just("in".to_owned()),
        "[a-zA-Z0-9_./-]{1,6}"
    ]
}

fn value() -> impl Strategy<Value = String> {
    // A string cannot hold both kinds of quotes.
    "[a-c\"\u{e4} ]{0,3}"
}

fn node() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        Just(Node::All),
        Just(Node::Global),
        label().prop_map(Node::Has),
        (label(), value()).prop_map(|(l, v)| Node::Equal(l, v)),
        (label(), value()).prop_map(|(l, v)| Node::NotEqual(l, v)),
        (label(), value()).prop_map(|(l, v)| Node::Contains(l, v)),
        (label(), value()).prop_map(|(l, v)| Node::StartsWith(l, v)),
        (label(), value()).prop_map(|(l, v)| Node::EndsWith(l, v)),
        (label(), prop::collection::btree_set(value(), 0..3)).prop_map(|(l, v)| Node::In(l, v)),
        (label(), prop::collection::btree_set(value(), 0..3)).prop_map(|(l, v)| Node::NotIn(l, v)),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            // The language has no text for the negation of a negation.
            inner.clone().prop_map(|node| match node {
                Node::Not(operand) => *operand,
                node => Node::Not(Box::new(node)),
            }),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Node::And),
            prop::collection::vec(inner, 2..4).prop_map(Node::Or),
        ]
    })
}

proptest! {
    #[test]
    fn canonical_text_reads_back_as_the_same_selector(node in node(), labels in prop::collection::btree_map(label(), value(), 0..4)) {
        let selector = Selector::from_node(node);
        let again = Selector::parse(selector.canonical()).unwrap();
        prop_assert_eq!(&again, &selector);
        prop_assert_eq!(again.matches(&labels), selector.matches(&labels));
    }

    #[test]
    fn any_text_is_read_or_refused_without_a_panic(text in "[ a!=&|(){}'\",inothas.\u{e4}-]{0,40}") {
        if let Ok(selector) = Selector::parse(&text) {
            let labels: BTreeMap<String, String> = [("a".to_owned(), "b".to_owned())].into();
            let again = Selector::parse(selector.canonical()).unwrap();
            prop_assert_eq!(again.matches(&labels), selector.matches(&labels));
        }
    }
}
