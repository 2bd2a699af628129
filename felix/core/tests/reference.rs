//! The reference of parameters says what there is. `make reference` writes it.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test that compares a file"
)]

use std::collections::BTreeSet;
use std::path::Path;

use caracal_api::v3::FelixConfigurationSpec;
use caracal_felix_core::config::{parameters, reference};

#[test]
fn every_field_is_in_the_table_and_nothing_else() {
    let schema = schemars::schema_for!(FelixConfigurationSpec);
    let properties = schema.get("properties").unwrap().as_object().unwrap();
    let fields: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
    let table: BTreeSet<&str> = parameters::ALL.iter().map(|parameter| parameter.field).collect();
    assert_eq!(table.len(), parameters::ALL.len());
    let missing: Vec<_> = fields.difference(&table).collect();
    let unknown: Vec<_> = table.difference(&fields).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "missing {missing:?}, unknown {unknown:?}"
    );
}

#[test]
fn the_reference_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/felix-configuration.md");
    let text = reference::markdown();
    if std::env::var("CARACAL_WRITE_REFERENCE").is_ok() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let present = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(present, text, "run `make reference`");
}
