//! What a mitigation does, as a text that says the same for ever, so that a person's approval can be for it.

use std::fmt::Write;

use crate::model::{ActionKind, Extent, Mitigation, Mode};

/// Everything by which a mitigation acts: its actions and where, the builds that it is for, and whether it is enforced.
/// What is only for people, and the vectors, are left out. Two mitigations have the same text only if they do the same.
///
/// The text is kept as a digest across versions of this program, so its form never changes; what comes to be said beside
/// it is written only where a mitigation says it.
pub fn content(mitigation: &Mitigation) -> String {
    let mut text = String::new();
    for action in &mitigation.actions {
        let extent = |extent: &Extent| match extent {
            Extent::Disabled => "disabled",
            Extent::Stopped => "stopped",
        };
        let (name, words) = match &action.kind {
            ActionKind::AppPool(pool) => {
                let silent = if pool.proxy503 { "" } else { " without 503" };
                (&pool.name, format!("{}{silent}", extent(&pool.extent)))
            }
            ActionKind::DoNothing => (&String::new(), String::new()),
            ActionKind::Rewrite(rules) => (&rules.xml, String::new()),
            ActionKind::Service(service) => (&service.name, extent(&service.extent).to_owned()),
        };
        let scope = action.scope.to_string();
        // Lengths keep apart what follows each other. Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "action {} {words} on {} {scope} {} {name}",
            action.kind.name(),
            scope.len(),
            name.len(),
        );
    }
    for range in &mitigation.applies {
        let product = &range.product;
        let _ = writeln!(
            text,
            "builds {} {product} {:?} {:?}",
            product.len(),
            range.min,
            range.below
        );
    }
    if mitigation.mode == Mode::Audit {
        text.push_str("audit\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Action, BuildRange, PoolStop, RewriteText, Scope, ServiceStop};

    fn rewrite(xml: &str) -> ActionKind {
        ActionKind::Rewrite(RewriteText {
            xml: xml.to_owned(),
            line: 7,
            column: 3,
        })
    }

    fn mitigation(kinds: Vec<ActionKind>) -> Mitigation {
        let action = |kind| Action {
            kind,
            scope: Scope::from_target("Default Web Site/owa"),
            description: String::new(),
        };
        Mitigation {
            id: "M1.1".parse().unwrap(),
            description: String::new(),
            cve: String::new(),
            reference: String::new(),
            side_effects: String::new(),
            group: String::new(),
            actions: kinds.into_iter().map(action).collect(),
            vectors: Vec::new(),
            applies: Vec::new(),
            mode: Mode::Enforce,
            approval_required: true,
            ring: None,
            not_before: None,
            not_after: None,
            withdrawn: false,
            failure: None,
        }
    }

    fn pool(extent: Extent, proxy503: bool) -> ActionKind {
        let name = "P".to_owned();
        ActionKind::AppPool(PoolStop {
            name,
            extent,
            proxy503,
        })
    }

    fn service(extent: Extent) -> ActionKind {
        let name = "P".to_owned();
        ActionKind::Service(ServiceStop { name, extent })
    }

    /// The form is kept in state folders: a change here makes every approval worthless.
    #[test]
    fn text_is_as_it_always_was() {
        let mut all = mitigation(vec![
            rewrite("<rules/>"),
            service(Extent::Disabled),
            pool(Extent::Stopped, false),
            ActionKind::DoNothing,
        ]);
        all.applies.push(BuildRange {
            product: "exchange".to_owned(),
            min: [15, 1, 0, 0],
            below: [15, 1, 2_375, 37],
        });
        all.mode = Mode::Audit;
        assert_eq!(
            content(&all),
            "action UrlRewrite  on 20 Default Web Site/owa 8 <rules/>\n\
             action Service disabled on 20 Default Web Site/owa 1 P\n\
             action AppPool stopped without 503 on 20 Default Web Site/owa 1 P\n\
             action DoNothing  on 20 Default Web Site/owa 0 \n\
             builds 8 exchange [15, 1, 0, 0] [15, 1, 2375, 37]\n\
             audit\n"
        );
    }

    #[test]
    fn what_acts_otherwise_has_another_text_and_what_is_for_people_does_not_count() {
        let kinds = [
            rewrite("a"),
            rewrite("b"),
            service(Extent::Disabled),
            service(Extent::Stopped),
            pool(Extent::Disabled, true),
            pool(Extent::Disabled, false),
            pool(Extent::Stopped, true),
            ActionKind::DoNothing,
        ];
        let texts: std::collections::BTreeSet<_> = kinds
            .iter()
            .map(|kind| content(&mitigation(vec![kind.clone()])))
            .collect();
        assert_eq!(texts.len(), kinds.len());
        let one = mitigation(vec![rewrite("a")]);
        let mut other = one.clone();
        other.description = "for people".to_owned();
        assert_eq!(content(&one), content(&other));
        other.actions[0].scope = Scope::Server;
        assert_ne!(content(&one), content(&other));
        // What looks like the end of one thing and the beginning of another is neither.
        let split =
            |one: &str, other: &str| content(&mitigation(vec![rewrite(one), rewrite(other)]));
        assert_ne!(split("a", "b\nc"), split("a\nb", "c"));
    }
}
