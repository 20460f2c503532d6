//! Character classes.

use super::escape::Escape;
use super::parser::{Parsed, Parser, ascii};
use crate::rules::pattern::error::Kind;
use crate::rules::pattern::unit_set::UnitSet;

impl Parser {
    /// Reads the class whose `[` is next: `[]` holds nothing, `[^]` everything.
    pub(super) fn class(&mut self) -> Parsed<UnitSet> {
        let start = self.at;
        self.at += 1;
        let negated = ascii(self.unit_at(self.at)) == b'^';
        if negated {
            self.at += 1;
        }
        let mut set = UnitSet::default();
        loop {
            let Some(unit) = self.peek() else {
                return Err(self.error(start, Kind::ClassNotClosed));
            };
            if ascii(unit) == b']' {
                self.at += 1;
                break;
            }
            self.class_range(&mut set)?;
        }
        let set = self.folded(set);
        Ok(if negated { set.complement() } else { set })
    }

    /// One member, or two with a `-` between them: a range, unless one of them is a set, when the `-` is a member.
    fn class_range(&mut self, set: &mut UnitSet) -> Parsed<()> {
        let start = self.at;
        let first = self.class_member()?;
        let dash = ascii(self.unit_at(self.at)) == b'-';
        let is_last = matches!(ascii(self.unit_at(self.at + 1)), b']');
        if !dash || is_last || self.at + 1 >= self.end() {
            add(set, &first);
            return Ok(());
        }
        self.at += 1;
        let last = self.class_member()?;
        match (&first, &last) {
            (Escape::Unit(first), Escape::Unit(last)) if first > last => {
                return Err(self.error(start, Kind::ClassRange));
            }
            (Escape::Unit(first), Escape::Unit(last)) => set.insert(*first, *last),
            _ => {
                add(set, &first);
                add(set, &last);
                set.insert(b'-'.into(), b'-'.into());
            }
        }
        Ok(())
    }

    fn class_member(&mut self) -> Parsed<Escape> {
        let unit = self.unit_at(self.at);
        if ascii(unit) == b'\\' {
            return self.escape(true);
        }
        self.at += 1;
        Ok(Escape::Unit(unit))
    }
}

fn add(set: &mut UnitSet, member: &Escape) {
    match member {
        Escape::Set(other) => set.union(other),
        Escape::Unit(unit) => set.insert(*unit, *unit),
    }
}
