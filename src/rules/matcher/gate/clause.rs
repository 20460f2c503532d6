//! Texts of which one must be in an input, as they are kept.

/// Texts in lower case of which one must be in the input, without regard to the case of ASCII letters.
///
/// None is empty and none holds a byte beyond ASCII: an ASCII text is in the input exactly if it is in the form that
/// patterns search, and no letter beyond ASCII equals one of ASCII (ES5.1 section 15.10.2.8).
#[derive(Debug)]
pub(crate) struct Clause {
    /// Each text behind its length.
    texts: Box<[u8]>,
}

impl Clause {
    /// # Panics
    ///
    /// When a text is longer than 255 bytes.
    pub(super) fn new<'t>(texts: impl Iterator<Item = &'t [u8]> + Clone) -> Self {
        let room = texts.clone().map(|text| 1 + text.len()).sum();
        let mut all = Vec::with_capacity(room);
        for text in texts {
            all.push(u8::try_from(text.len()).expect("texts have at most MAX_BYTES"));
            all.extend_from_slice(text);
        }
        Self {
            texts: all.into_boxed_slice(),
        }
    }

    /// The texts, in the order in which they were given.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &*self.texts;
        std::iter::from_fn(move || {
            let (length, behind) = rest.split_first()?;
            let (text, behind) = behind.split_at(usize::from(*length));
            rest = behind;
            Some(text)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_as_they_were_given() {
        let long = "a".repeat(255);
        for texts in [&[][..], &["ab"], &["b", "a", "b"], &[&long, "c"]] {
            let texts = texts.iter().map(|text| text.as_bytes());
            let clause = Clause::new(texts.clone());
            assert!(clause.iter().eq(texts));
        }
    }
}
