//! What a document holds that is not known here.

use super::{NAMESPACE, NOTICE_LIMIT};
use crate::xml::Element;

/// Notices in document order, each with its place.
#[derive(Debug, Default)]
pub(super) struct Notices {
    list: Vec<String>,
    left_out: usize,
}

impl Notices {
    /// Notes an element that is not known where it stands.
    pub(super) fn element(&mut self, element: Element<'_>) {
        let parent = element.parent().map_or("the document", Element::name);
        self.add(format!(
            "{}: element {} in {parent} is not known",
            element.position(),
            element.qualified_name()
        ));
    }

    /// Notes each attribute that is neither among `plain`, in no namespace, nor among `own`, in ours.
    pub(super) fn attributes(&mut self, element: Element<'_>, plain: &[&str], own: &[&str]) {
        for attribute in element.attributes() {
            let known = match attribute.namespace() {
                "" => plain,
                NAMESPACE => own,
                _ => &[],
            };
            if !known.contains(&attribute.name()) {
                self.add(format!(
                    "{}: attribute {} of {} is not known",
                    attribute.position(),
                    attribute.qualified_name(),
                    element.name()
                ));
            }
        }
    }

    pub(super) fn into_list(mut self) -> Vec<String> {
        if self.left_out > 0 {
            self.list
                .push(format!("{} further things are not known", self.left_out));
        }
        self.list
    }

    fn add(&mut self, notice: String) {
        // One place is kept for the line that counts the rest.
        if self.list.len() < NOTICE_LIMIT - 1 {
            self.list.push(notice);
        } else {
            self.left_out += 1;
        }
    }
}
