//! The bundled documents as one source of mitigations.

use std::sync::Arc;

use crate::feed::{BUNDLED, FeedError, LocalContent, LocalDocument, TypeAliases};
use crate::model::Mitigation;

/// The name of the bundled set in status and alarms.
pub(super) const NAME: &str = "bundled";

/// Reads the bundled set, in the order of evaluation.
pub(super) fn mitigations() -> Result<Vec<Arc<Mitigation>>, FeedError> {
    let mut mitigations = Vec::new();
    for (_, document) in BUNDLED {
        let parsed = LocalDocument::parse(document, &TypeAliases::default())?;
        if let LocalContent::Mitigations(offered) = parsed.content {
            mitigations.extend(offered.mitigations.into_iter().map(Arc::new));
        }
    }
    Ok(mitigations)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ActionKind;

    #[test]
    fn every_document_is_whole_and_judged_hardened() {
        for (name, document) in BUNDLED {
            let parsed = LocalDocument::parse(document, &TypeAliases::default()).unwrap();
            let LocalContent::Mitigations(document) = parsed.content else {
                panic!("{name} holds rules without a mitigation");
            };
            assert_eq!(document.notices, Vec::<String>::new(), "{name}");
            assert!(document.nameless.is_empty(), "{name}");
            let [mitigation] = &document.mitigations[..] else {
                panic!("{name} holds {} mitigations", document.mitigations.len());
            };
            assert!(name.contains(&format!("/{}/", mitigation.id)), "{name}");
            assert_eq!(mitigation.failure, None, "{name}");
            // Control judges the whole set hardened, so documents with rules must say the same.
            let mut actions = mitigation.actions.iter();
            let has_rules = actions.any(|a| matches!(a.kind, ActionKind::Rewrite(_)));
            assert_eq!(parsed.hardened, has_rules, "{name}");
        }
        assert_eq!(mitigations().unwrap().len(), BUNDLED.len());
    }
}
