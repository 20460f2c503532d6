//! A configuration collection over several levels: what is added, removed and cleared, in order.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};

use crate::rules::RuleError;
use crate::rules::error::{Kind, Place};

/// A name without regard to ASCII case, as IIS's schema compares names unless it says otherwise.
#[derive(Clone, Copy, Debug)]
struct Caseless<'n>(&'n str);

impl PartialEq for Caseless<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(other.0)
    }
}

impl Eq for Caseless<'_> {}

impl Hash for Caseless<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut few = [0; 32];
        for bytes in self.0.as_bytes().chunks(few.len()) {
            let few = &mut few[..bytes.len()];
            few.copy_from_slice(bytes);
            few.make_ascii_lowercase();
            state.write(few);
        }
    }
}

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
    /// What is left, in order. Names are compared without regard to ASCII case.
    ///
    /// # Errors
    ///
    /// Refuses the second of one name.
    pub(crate) fn resolve(&self) -> Result<Vec<&T>, RuleError> {
        // Most have one entry, and many rules have one collection each.
        if let [Edit::Add(item)] = self.edits.as_slice() {
            return Ok(vec![item]);
        }
        let mut left: Vec<Option<&T>> = Vec::with_capacity(self.edits.len());
        let mut at: HashMap<Caseless<'_>, usize> = HashMap::with_capacity(self.edits.len());
        for edit in &self.edits {
            match edit {
                Edit::Add(item) => {
                    if at.insert(Caseless(item.name()), left.len()).is_some() {
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
                    if let Some(index) = at.remove(&Caseless(name)) {
                        left[index] = None;
                    }
                }
            }
        }
        Ok(left.into_iter().flatten().collect())
    }
}
