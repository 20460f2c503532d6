//! The bundled mitigations, read from their folder.

use std::fs;
use std::path::Path;

use stopgap::feed::{LocalContent, LocalDocument, TypeAliases};
use stopgap::lab::vectors;
use stopgap::model::Mitigation;
use stopgap::rules::{Dialect, RuleSet};

/// Every bundled mitigation in the order of ids.
pub(crate) fn mitigations() -> Vec<Mitigation> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules/baseline");
    let mut mitigations: Vec<Mitigation> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let folder = entry.unwrap();
            let mitigation = read(&folder.path().join("mitigation.xml"));
            assert_eq!(
                folder.file_name().to_str().unwrap(),
                mitigation.id.to_string()
            );
            mitigation
        })
        .collect();
    mitigations.sort_by(|one, other| one.id.cmp(&other.id));
    mitigations
}

/// The rules of one mitigation alone, as the product judges them.
pub(crate) fn compile(mitigation: &Mitigation) -> RuleSet {
    let document = format!("rules/baseline/{}/mitigation.xml", mitigation.id);
    vectors::compile(mitigation, Dialect::Hardened, &document)
        .unwrap_or_else(|error| panic!("{error}"))
}

fn read(path: &Path) -> Mitigation {
    let bytes = fs::read(path).unwrap();
    let document = LocalDocument::parse(&bytes, &TypeAliases::default()).unwrap();
    let LocalContent::Mitigations(feed) = document.content else {
        panic!("{} holds rules alone", path.display());
    };
    assert!(
        feed.notices.is_empty(),
        "{}: {:?}",
        path.display(),
        feed.notices
    );
    assert!(feed.nameless.is_empty());
    let [mitigation] = feed.mitigations.try_into().unwrap();
    assert_eq!(mitigation.failure, None, "{}", path.display());
    mitigation
}
