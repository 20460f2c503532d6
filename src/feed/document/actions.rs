//! An `ActionList` as actions.

use super::mitigation::{own, plain};
use super::notices::Notices;
use super::{ACTION_LIMIT, Fault, NAMESPACE, TypeAliases, fault};
use crate::feed::config::ActionType;
use crate::model::{Action, ActionKind, Extent, PoolStop, RewriteText, Scope, ServiceStop};
use crate::xml::Element;

/// The longest name of a service or an application pool (Windows allows 256 characters for a service).
const NAME_LIMIT: usize = 256;

pub(super) fn read(
    list: Element<'_>,
    aliases: &TypeAliases,
    notices: &mut Notices,
) -> Result<Vec<Action>, Fault> {
    notices.attributes(list, &[], &[]);
    let mut actions = Vec::new();
    for child in list.children() {
        if !child.is("", "Action") {
            notices.element(child);
            continue;
        }
        if actions.len() == ACTION_LIMIT {
            let reason = format!("more than {ACTION_LIMIT} actions in one mitigation");
            return Err(fault(child, reason));
        }
        actions.push(read_action(child, aliases, notices)?);
    }
    match actions.is_empty() {
        true => Err(fault(list, "no Action")),
        false => Ok(actions),
    }
}

fn read_action(
    element: Element<'_>,
    aliases: &TypeAliases,
    notices: &mut Notices,
) -> Result<Action, Fault> {
    let word = plain(element, "type");
    // Whatever else it says, an action that is not known is named first: it is what an operator can act on.
    let action_type = aliases
        .action_type(&word)
        .ok_or_else(|| format!("unsupported: {word}"))?;
    let known: &[&str] = match action_type {
        ActionType::AppPool => &["target", "desired", "proxy503"],
        ActionType::Service => &["target", "desired"],
        ActionType::DoNothing | ActionType::UrlRewrite => &["target"],
    };
    notices.attributes(element, &["type", "scope", "desc"], known);
    let mut value = None;
    for child in element.children() {
        if !child.is("", "Value") {
            notices.element(child);
        } else if value.replace(child).is_some() {
            return Err(fault(child, "a second Value"));
        }
    }
    let kind = match action_type {
        ActionType::DoNothing => ActionKind::DoNothing,
        ActionType::AppPool => ActionKind::AppPool(PoolStop {
            name: name(element, value)?,
            extent: extent(element)?,
            proxy503: proxy503(element)?,
        }),
        ActionType::Service => ActionKind::Service(ServiceStop {
            name: name(element, value)?,
            extent: extent(element)?,
        }),
        ActionType::UrlRewrite => {
            let value = value.ok_or_else(|| fault(element, "no Value"))?;
            ActionKind::Rewrite(rewrite_text(value)?)
        }
    };
    Ok(Action {
        kind,
        scope: scope(element)?,
        description: plain(element, "desc"),
    })
}

fn scope(element: Element<'_>) -> Result<Scope, Fault> {
    let target = own(element, "target");
    let word = plain(element, "scope");
    let scope = match (word.as_str(), target.is_empty()) {
        ("Server", true) => return Ok(Scope::Server),
        ("Server", false) => {
            let reason = "scope Server is every site: leave sg:target out, or write scope Site";
            return Err(fault(element, reason));
        }
        ("Site" | "VDir", true) => {
            let reason = format!("scope {word} needs sg:target, like \"Default Web Site/owa\"");
            return Err(fault(element, reason));
        }
        ("Site" | "VDir", false) => Scope::from_target(&target),
        _ => return Err(fault(element, format!("unsupported scope: {word:?}"))),
    };
    match &scope {
        Scope::Site { path, .. } if word == "VDir" && path.is_empty() => {
            let reason = format!("scope VDir needs a path in sg:target, and {target:?} has none");
            Err(fault(element, reason))
        }
        _ => Ok(scope),
    }
}

fn extent(action: Element<'_>) -> Result<Extent, Fault> {
    match own(action, "desired").as_str() {
        "" | "Disabled" => Ok(Extent::Disabled),
        "Stopped" => Ok(Extent::Stopped),
        other => {
            let reason = format!("sg:desired is Disabled or Stopped, not {other:?}");
            Err(fault(action, reason))
        }
    }
}

fn proxy503(action: Element<'_>) -> Result<bool, Fault> {
    match own(action, "proxy503").as_str() {
        "" | "true" => Ok(true),
        "false" => Ok(false),
        other => {
            let reason = format!("sg:proxy503 is true or false, not {other:?}");
            Err(fault(action, reason))
        }
    }
}

fn name(action: Element<'_>, value: Option<Element<'_>>) -> Result<String, Fault> {
    let value = value.ok_or_else(|| fault(action, "no Value"))?;
    let text = value.text();
    let name = text.trim();
    let usable = !name.is_empty()
        && name.chars().count() <= NAME_LIMIT
        && !name.chars().any(char::is_control)
        && value.children().next().is_none();
    match usable {
        true => Ok(name.to_owned()),
        false => Err(fault(value, "Value must be one name")),
    }
}

/// The rewrite rules of a Value: its text or CDATA, or its only child element.
fn rewrite_text(value: Element<'_>) -> Result<RewriteText, Fault> {
    let mut children = value.children();
    let (child, more) = (children.next(), children.next());
    match (child, value.has_text(), more) {
        (None, true, None) => {
            let text = value.text();
            let start = text.len() - text.trim_start().len();
            let position = value.text_position_at(start);
            Ok(RewriteText {
                xml: text.trim().to_owned(),
                line: position.line,
                column: position.column,
            })
        }
        (Some(child), false, None) if is_rewrite(child) => {
            let position = child.position();
            Ok(RewriteText {
                xml: child.source().to_owned(),
                line: position.line,
                column: position.column,
            })
        }
        _ => {
            let reason = "Value must hold one <rewrite>, <rules> or <outboundRules>, as text or as an element";
            Err(fault(value, reason))
        }
    }
}

pub(super) fn is_rewrite(element: Element<'_>) -> bool {
    // Elements of ours inside rules would be lost on a reader of rules.
    element.namespace() != NAMESPACE
        && matches!(
            element.name(),
            "rewrite" | "rules" | "globalRules" | "outboundRules"
        )
}
