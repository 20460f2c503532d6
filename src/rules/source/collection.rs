//! A configuration collection over several levels: what is added, removed and cleared, in order.

use std::collections::HashMap;

use crate::rules::RuleError;
use crate::rules::error::{Kind, Place};

/// What has a unique name in its collection.
pub(crate) trait Named {
    /// What it is called in an error.
    const WHAT: &'static str;

    fn name(&self) -> &str;

    fn place(&self) -> &Place;
}

/// One child of a collection element.
#[derive(Clone, Debug)]
pub(crate) enum Edit<T> {
    Add(T),
    /// Drops everything so far, inherited or not.
    Clear,
    /// Drops the one of this name. As everywhere in IIS's configuration, one that does not exist is no error.
    Remove(String),
}

/// The edits of one level after those of the levels above.
#[derive(Clone, Debug)]
pub(crate) struct Collection<T> {
    pub(crate) edits: Vec<Edit<T>>,
}

impl<T> Default for Collection<T> {
    fn default() -> Self {
        Self { edits: Vec::new() }
    }
}

impl<T: Named + Clone> Collection<T> {
    /// Puts the edits of a parent level before these.
    pub(crate) fn inherit(&mut self, parent: &Self) {
        self.edits.splice(..0, parent.edits.iter().cloned());
    }
}

impl<T: Named> Collection<T> {
    /// The place of the first item.
    pub(crate) fn first(&self) -> Option<&Place> {
        self.edits.iter().find_map(|edit| match edit {
            Edit::Add(item) => Some(item.place()),
            Edit::Clear | Edit::Remove(_) => None,
        })
    }

    /// What is left, in order. Names are compared without regard to ASCII case, as IIS's schema does unless it says
    /// otherwise.
    ///
    /// # Errors
    ///
    /// Refuses the second of one name.
    pub(crate) fn resolve(&self) -> Result<Vec<&T>, RuleError> {
        // Most have one entry, and many rules have one collection each.
        if let [Edit::Add(item)] = self.edits.as_slice() {
            return Ok(vec![item]);
        }
        let mut left: Vec<Option<&T>> = Vec::new();
        let mut at: HashMap<String, usize> = HashMap::new();
        for edit in &self.edits {
            match edit {
                Edit::Add(item) => {
                    if at
                        .insert(item.name().to_ascii_lowercase(), left.len())
                        .is_some()
                    {
                        let what = format!("{} {:?}", T::WHAT, item.name());
                        let error = RuleError::new(item.place(), Kind::Duplicate(what));
                        return Err(error.in_attribute("name"));
                    }
                    left.push(Some(item));
                }
                Edit::Clear => {
                    left.clear();
                    at.clear();
                }
                Edit::Remove(name) => {
                    if let Some(index) = at.remove(&name.to_ascii_lowercase()) {
                        left[index] = None;
                    }
                }
            }
        }
        Ok(left.into_iter().flatten().collect())
    }
}
