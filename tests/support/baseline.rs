//! The bundled mitigations, read from their folder.

use stopgap::feed::{BUNDLED, LocalContent, LocalDocument, TypeAliases};
use stopgap::lab::vectors::{self, Reading};
use stopgap::model::Mitigation;
use stopgap::rules::{Dialect, RuleSet};

/// Every bundled mitigation in the order of ids.
pub(crate) fn mitigations() -> Vec<Mitigation> {
    let mut mitigations: Vec<Mitigation> = BUNDLED
        .iter()
        .map(|(name, bytes)| read(name, bytes))
        .collect();
    mitigations.sort_by(|one, other| one.id.cmp(&other.id));
    mitigations
}

/// The rules of one mitigation alone, as the product judges them.
pub(crate) fn compile(mitigation: &Mitigation) -> RuleSet {
    compile_in(mitigation, Dialect::Hardened)
}

/// The rules of one mitigation alone, in a dialect.
pub(crate) fn compile_in(mitigation: &Mitigation, dialect: Dialect) -> RuleSet {
    let document = document_name(mitigation);
    let reading = Reading {
        document: &document,
        dialect,
        verified: false,
    };
    vectors::sources(mitigation, reading)
        .and_then(|sources| vectors::compile(mitigation, &sources, &document))
        .unwrap_or_else(|error| panic!("{error}"))
}

fn read(name: &str, bytes: &[u8]) -> Mitigation {
    let document = LocalDocument::parse(bytes, &TypeAliases::default()).unwrap();
    let LocalContent::Mitigations(feed) = document.content else {
        panic!("{name} holds rules alone");
    };
    assert!(feed.notices.is_empty(), "{name}: {:?}", feed.notices);
    assert!(feed.nameless.is_empty(), "{name}");
    let [mitigation] = feed.mitigations.try_into().unwrap();
    assert_eq!(mitigation.failure, None, "{name}");
    assert_eq!(name, document_name(&mitigation));
    mitigation
}

fn document_name(mitigation: &Mitigation) -> String {
    format!("rules/baseline/{}/mitigation.xml", mitigation.id)
}
