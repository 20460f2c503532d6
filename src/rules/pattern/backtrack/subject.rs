//! The text that a program runs on, unit by unit.

use super::program::{Program, Taken};
use super::{OutOfSteps, Steps};
use crate::rules::pattern::ast::Ast;
use crate::rules::pattern::case;
use crate::rules::pattern::limits;
use crate::rules::pattern::text::unit_at;

/// What runs on what.
pub(super) struct Subject<'r> {
    pub(super) program: &'r Program,
    pub(super) ast: &'r Ast,
    /// In the form of [`Text`](crate::rules::pattern::text::Text).
    pub(super) bytes: &'r [u8],
    /// Whether choices that failed are noted.
    pub(super) memoize: bool,
}

impl Subject<'_> {
    /// The place behind one unit, if it is the right one.
    pub(super) fn take(&self, taken: Taken, at: u32) -> Option<u32> {
        let (unit, length) = unit_at(self.bytes, at as usize)?;
        let right = match taken {
            Taken::Class(number) => self.ast.class(number).contains(unit),
            Taken::Unit(wanted) => self.canonical(unit) == wanted,
        };
        right.then_some(at + length)
    }

    pub(super) fn take_all(&self, taken: Taken, mut at: u32) -> u32 {
        while let Some(next) = self.take(taken, at) {
            at = next;
        }
        at
    }

    /// The place before the last unit.
    pub(super) fn before(&self, at: u32) -> u32 {
        let mut at = at.saturating_sub(1);
        while at > 0
            && self
                .bytes
                .get(at as usize)
                .is_some_and(|byte| byte & 0xc0 == 0x80)
        {
            at -= 1;
        }
        at
    }

    pub(super) fn is_boundary(&self, at: u32) -> bool {
        let at = at as usize;
        let is_word = |byte: Option<&u8>| {
            byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        };
        let before = at.checked_sub(1).and_then(|before| self.bytes.get(before));
        is_word(before) != is_word(self.bytes.get(at))
    }

    /// The place behind a repeated text.
    pub(super) fn repeats(
        &self,
        span: Option<(usize, usize)>,
        at: u32,
        steps: &mut Steps,
    ) -> Result<Option<u32>, OutOfSteps> {
        let Some((mut from, end)) = span else {
            return Ok(Some(at));
        };
        steps.take((end - from) as u32 / limits::UNITS_PER_STEP)?;
        let mut at = at as usize;
        while from < end {
            let (Some((wanted, step)), Some((unit, length))) =
                (unit_at(self.bytes, from), unit_at(self.bytes, at))
            else {
                return Ok(None);
            };
            if self.canonical(unit) != self.canonical(wanted) {
                return Ok(None);
            }
            from += step as usize;
            at += length as usize;
        }
        Ok(Some(at as u32))
    }

    fn canonical(&self, unit: u16) -> u16 {
        if self.ast.ignore_case() {
            case::canonicalize(unit)
        } else {
            unit
        }
    }
}
