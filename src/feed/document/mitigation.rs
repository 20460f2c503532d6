//! One `Config` as a mitigation.

use super::notices::Notices;
use super::{Fault, NAMESPACE, Nameless, TypeAliases, actions, fault, not_understood, vectors};
use crate::model::{BuildRange, Mitigation, MitigationId, Mode, UnixTime};
use crate::xml::Element;

/// Reads a `Config`. Whatever is wrong inside it becomes its failure; only without an id it is none.
pub(super) fn read(
    config: Element<'_>,
    aliases: &TypeAliases,
    notices: &mut Notices,
) -> Result<Mitigation, Nameless> {
    let id = config.attribute("id").map_or("", |found| found.value());
    let parsed: MitigationId = id.parse().map_err(|error| Nameless {
        id: id.chars().take(64).collect(),
        reason: fault(config, error),
    })?;
    let mut mitigation = Mitigation {
        id: parsed,
        description: plain(config, "desc"),
        cve: own(config, "cve"),
        reference: own(config, "ref"),
        side_effects: own(config, "sideEffects"),
        group: own(config, "group"),
        actions: Vec::new(),
        vectors: Vec::new(),
        applies: Vec::new(),
        mode: Mode::Enforce,
        approval_required: false,
        ring: None,
        not_before: None,
        not_after: None,
        withdrawn: false,
        failure: None,
    };
    if let Err(reason) = fill(&mut mitigation, config, aliases, notices) {
        mitigation.failure = Some(reason);
    }
    Ok(mitigation)
}

/// The value of an attribute in no namespace; empty when it is not there.
pub(super) fn plain(element: Element<'_>, name: &str) -> String {
    element
        .attribute(name)
        .map_or_else(String::new, |found| found.value().to_owned())
}

/// The value of an attribute in our namespace; empty when it is not there.
pub(super) fn own(element: Element<'_>, name: &str) -> String {
    element
        .attribute_ns(NAMESPACE, name)
        .map_or_else(String::new, |found| found.value().to_owned())
}

fn fill(
    mitigation: &mut Mitigation,
    config: Element<'_>,
    aliases: &TypeAliases,
    notices: &mut Notices,
) -> Result<(), Fault> {
    const OWN: &[&str] = &[
        "cve",
        "ref",
        "sideEffects",
        "group",
        "mode",
        "approval",
        "ring",
        "notBefore",
        "notAfter",
        "withdrawn",
        "mustUnderstand",
    ];
    notices.attributes(config, &["id", "desc"], OWN);
    if let Some(name) = not_understood(config) {
        let reason = format!("extension {name} must be understood and is not");
        return Err(fault(config, reason));
    }
    // A withdrawal counts even if something else in its Config cannot be read.
    mitigation.withdrawn = choice(config, "withdrawn", &[("false", false), ("true", true)])?;
    mitigation.approval_required =
        choice(config, "approval", &[("auto", false), ("required", true)])?;
    mitigation.ring = choice(
        config,
        "ring",
        &[("", None), ("0", Some(0)), ("1", Some(1)), ("2", Some(2))],
    )?;
    mitigation.not_before = time(config, "notBefore")?;
    mitigation.not_after = time(config, "notAfter")?;
    mitigation.mode = choice(
        config,
        "mode",
        &[("enforce", Mode::Enforce), ("audit", Mode::Audit)],
    )?;
    let mut action_list = None;
    let mut vector_list = None;
    for child in config.children() {
        let once = |seen: bool| match seen {
            true => Err(fault(child, format!("a second {}", child.name()))),
            false => Ok(child),
        };
        match (child.namespace(), child.name()) {
            ("", "ActionList") => action_list = Some(once(action_list.is_some())?),
            (NAMESPACE, "vectors") => vector_list = Some(once(vector_list.is_some())?),
            (NAMESPACE, "applies") => read_builds(child, &mut mitigation.applies, notices)?,
            _ => notices.element(child),
        }
    }
    if let Some(list) = vector_list {
        mitigation.vectors = vectors::read(list, notices)?;
    }
    match action_list {
        Some(list) => mitigation.actions = actions::read(list, aliases, notices)?,
        // Taking something back needs no word on what it did.
        None if mitigation.withdrawn => {}
        None => return Err(fault(config, "no ActionList")),
    }
    Ok(())
}

/// A time in one of our attributes; nothing when it is not there.
fn time(element: Element<'_>, name: &str) -> Result<Option<UnixTime>, Fault> {
    let Some(attribute) = element.attribute_ns(NAMESPACE, name) else {
        return Ok(None);
    };
    let value = attribute.value();
    let time = UnixTime::parse_rfc3339(value);
    time.map(Some).ok_or_else(|| {
        let reason = format!("sg:{name}={value:?}: write a time in UTC like 2026-11-23T09:00:00Z");
        fault(element, reason)
    })
}

/// The meaning of one of our attributes with a closed list of words; the first is what its absence means.
fn choice<T: Copy>(element: Element<'_>, name: &str, words: &[(&str, T)]) -> Result<T, Fault> {
    let Some(attribute) = element.attribute_ns(NAMESPACE, name) else {
        return Ok(words[0].1);
    };
    let found = words.iter().find(|(word, _)| *word == attribute.value());
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let known = words.iter().map(|(word, _)| *word);
        let known: Vec<&str> = known.filter(|word| !word.is_empty()).collect();
        let (value, known) = (attribute.value(), known.join(" or "));
        fault(element, format!("sg:{name}={value:?}: write {known}"))
    })
}

fn read_builds(
    list: Element<'_>,
    ranges: &mut Vec<BuildRange>,
    notices: &mut Notices,
) -> Result<(), Fault> {
    notices.attributes(list, &[], &[]);
    for child in list.children() {
        if !child.is(NAMESPACE, "builds") {
            notices.element(child);
            continue;
        }
        notices.attributes(child, &["product", "min", "below"], &[]);
        let product = plain(child, "product");
        if product.is_empty() {
            return Err(fault(child, "sg:builds without a product"));
        }
        let min = build(child, "min", [0; 4])?;
        let below = build(child, "below", [u32::MAX; 4])?;
        if min >= below {
            let reason = "sg:builds holds no build: min must be lower than below";
            return Err(fault(child, reason));
        }
        ranges.push(BuildRange {
            product,
            min,
            below,
        });
    }
    Ok(())
}

fn build(element: Element<'_>, name: &str, missing: [u32; 4]) -> Result<[u32; 4], Fault> {
    let Some(attribute) = element.attribute(name) else {
        return Ok(missing);
    };
    let value = attribute.value();
    let mut numbers = [0; 4];
    let mut places = numbers.iter_mut();
    for part in value.split('.') {
        let number = part.parse().ok().filter(|_| !part.starts_with('+'));
        let (Some(place), Some(number)) = (places.next(), number) else {
            let reason = format!("{name}={value:?} is no build: write it like 15.2.1118.20");
            return Err(fault(element, reason));
        };
        *place = number;
    }
    Ok(numbers)
}
