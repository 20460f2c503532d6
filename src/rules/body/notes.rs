//! What judging a body came to, written down for an explanation.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use crate::rules::RuleId;
use crate::rules::matcher::Part;

/// How many tests of one body are told; a page may hold any number of links.
const MAX_TESTS: usize = 1_000;

/// How much of a text is shown on either side of a match, in octets.
const AROUND: usize = 40;

/// Shared by the parts that judge one body.
pub(in crate::rules) type SharedNotes = Arc<Mutex<Notes>>;

/// Tests and acts in the order in which they were.
#[derive(Debug, Default)]
pub(in crate::rules) struct Notes {
    pub(in crate::rules) list: Vec<Note>,
    /// How many tests came after those that are told.
    pub(in crate::rules) untold: usize,
}

#[derive(Debug)]
pub(in crate::rules) enum Note {
    Acted(RuleId),
    Tested(TestNote),
}

/// One test of a rule in a body.
#[derive(Debug)]
pub(in crate::rules) struct TestNote {
    pub(in crate::rules) rule: RuleId,
    pub(in crate::rules) part: Part,
    /// What was tested, for people; conditions have none.
    pub(in crate::rules) place: Option<String>,
    /// The value; of a long text what is around the match. `None` for a text that grew too long.
    pub(in crate::rules) value: Option<Vec<u8>>,
    /// Where in that value the pattern was found.
    pub(in crate::rules) span: Option<Range<usize>>,
    pub(in crate::rules) out_of_steps: bool,
    pub(in crate::rules) holds: bool,
}

impl Notes {
    pub(super) fn add(notes: &SharedNotes, note: Note) {
        let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
        // Who acted is always told: each rule does so at most once for each test.
        if notes.list.len() < MAX_TESTS || matches!(note, Note::Acted(rule) if !notes.tells(rule)) {
            notes.list.push(note);
        } else {
            notes.untold += 1;
        }
    }

    fn tells(&self, wanted: RuleId) -> bool {
        let mut list = self.list.iter();
        list.any(|note| matches!(note, Note::Acted(rule) if *rule == wanted))
    }
}

/// What is shown of a text around a match in it, where that is now, and its place in words.
pub(super) fn excerpt(
    text: &[u8],
    span: Option<Range<usize>>,
) -> (Vec<u8>, Option<Range<usize>>, String) {
    let shown = match &span {
        Some(span) => {
            span.start.saturating_sub(AROUND)..text.len().min(span.end.saturating_add(AROUND))
        }
        None => 0..text.len().min(2 * AROUND),
    };
    let moved = span.map(|span| span.start - shown.start..span.end - shown.start);
    let place = format!("octets {}..{} of {}", shown.start, shown.end, text.len());
    (text[shown].to_vec(), moved, place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpt_shows_what_is_around() {
        let text = "x".repeat(100) + "match" + &"y".repeat(100);
        let (shown, span, place) = excerpt(text.as_bytes(), Some(100..105));
        assert_eq!(shown.len(), 85);
        assert_eq!(&shown[span.unwrap()], b"match");
        assert_eq!(place, "octets 60..145 of 205");
        let (shown, span, place) = excerpt(b"short", Some(0..5));
        assert_eq!((&*shown, span), (&b"short"[..], Some(0..5)));
        assert_eq!(place, "octets 0..5 of 5");
        assert_eq!(excerpt(text.as_bytes(), None).0.len(), 80);
    }

    #[test]
    fn tests_beyond_the_limit_are_counted() {
        let notes = SharedNotes::default();
        for number in 0..MAX_TESTS + 2 {
            let test = TestNote {
                rule: RuleId(0),
                part: Part::Match,
                place: None,
                value: None,
                span: None,
                out_of_steps: false,
                holds: number == 0,
            };
            Notes::add(&notes, Note::Tested(test));
        }
        for _ in 0..2 {
            Notes::add(&notes, Note::Acted(RuleId(0)));
        }
        let notes = notes.lock().unwrap();
        assert_eq!((notes.list.len(), notes.untold), (MAX_TESTS + 1, 3));
    }
}
