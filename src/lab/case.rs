//! One case as it is read: a JSON object, borrowed from its line wherever the line has no escapes.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

/// A text of the line, copied only when escapes stand in it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub(super) struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Text<'_> {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Text<'_> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl AsRef<[u8]> for Text<'_> {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

/// Fields that only say what is expected are passed over.
#[derive(Deserialize)]
pub(super) struct Case<'a> {
    #[serde(default)]
    pub(super) id: serde_json::Value,
    #[serde(borrow)]
    pub(super) rules_xml: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) request: Request<'a>,
    #[serde(borrow, default)]
    pub(super) context: Context<'a>,
    #[serde(borrow)]
    pub(super) response: Option<Response<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Request<'a> {
    #[serde(borrow, default = "get")]
    pub(super) method: Text<'a>,
    #[serde(borrow)]
    pub(super) url: Text<'a>,
    #[serde(borrow, default)]
    pub(super) headers: Headers<'a>,
    pub(super) remote_addr: Option<IpAddr>,
    #[serde(default)]
    pub(super) https: bool,
}

fn get() -> Text<'static> {
    "GET".into()
}

/// What surrounds the request: what exists on disk, further variables, and rules of the levels above, outermost first.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Context<'a> {
    #[serde(borrow)]
    pub(super) files: Vec<Text<'a>>,
    #[serde(borrow)]
    pub(super) dirs: Vec<Text<'a>>,
    #[serde(borrow)]
    pub(super) variables: Pairs<'a>,
    #[serde(borrow)]
    pub(super) parent_rules_xml: Vec<Text<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Response<'a> {
    #[serde(default = "ok")]
    pub(super) status: u16,
    #[serde(borrow, default)]
    pub(super) headers: Headers<'a>,
    #[serde(borrow, default = "nothing")]
    pub(super) body: Text<'a>,
}

const fn ok() -> u16 {
    200
}

fn nothing() -> Text<'static> {
    "".into()
}

/// An object of texts, in the order written.
#[derive(Default)]
pub(super) struct Pairs<'a>(pub(super) Vec<(Text<'a>, Text<'a>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Pairs<'de>, M::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor)
    }
}

/// Fields in the order written: an object with one value or several for a name, or an array of pairs.
#[derive(Default)]
pub(super) struct Headers<'a>(pub(super) Vec<(Text<'a>, Text<'a>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Headers<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeadersVisitor;
        impl<'de> Visitor<'de> for HeadersVisitor {
            type Value = Headers<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of fields, or an array of pairs of name and value")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Headers<'de>, M::Error> {
                let mut fields = Vec::with_capacity(4);
                while let Some((name, values)) = map.next_entry::<Text<'de>, Values<'de>>()? {
                    match values {
                        Values::Many(values) => {
                            fields.extend(values.into_iter().map(|value| (name.clone(), value)));
                        }
                        Values::One(value) => fields.push((name, value)),
                    }
                }
                Ok(Headers(fields))
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Headers<'de>, S::Error> {
                let mut fields = Vec::new();
                while let Some(field) = list.next_element()? {
                    fields.push(field);
                }
                Ok(Headers(fields))
            }
        }
        deserializer.deserialize_any(HeadersVisitor)
    }
}

/// One value of a field, or several.
enum Values<'a> {
    Many(Vec<Text<'a>>),
    One(Text<'a>),
}

impl<'de: 'a, 'a> Deserialize<'de> for Values<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValuesVisitor;
        impl<'de> Visitor<'de> for ValuesVisitor {
            type Value = Values<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of strings")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Values<'de>, E> {
                Ok(Values::One(text.into()))
            }

            fn visit_str<E>(self, text: &str) -> Result<Values<'de>, E> {
                Ok(Values::One(Text(Cow::Owned(text.to_owned()))))
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Values<'de>, S::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element()? {
                    values.push(value);
                }
                Ok(Values::Many(values))
            }
        }
        deserializer.deserialize_any(ValuesVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_three_forms() {
        for (headers, expected) in [
            (
                r#"{"b":"1","a":["2","3"]}"#,
                vec![("b", "1"), ("a", "2"), ("a", "3")],
            ),
            (
                r#"[["b","1"],["b","\u00e9"]]"#,
                vec![("b", "1"), ("b", "\u{e9}")],
            ),
            ("{}", vec![]),
        ] {
            let line = format!(r#"{{"request":{{"url":"/","headers":{headers}}}}}"#);
            let case: Case<'_> = serde_json::from_str(&line).unwrap();
            let fields = case.request.headers.0.iter();
            let fields: Vec<_> = fields
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            assert_eq!(fields, expected, "{headers}");
        }
    }

    #[test]
    fn texts_without_escapes_are_borrowed() {
        let case: Case<'_> =
            serde_json::from_str(r#"{"rules_xml":"<a>","request":{"url":"/\u0041"}}"#).unwrap();
        assert!(matches!(case.rules_xml, Some(Text(Cow::Borrowed("<a>")))));
        assert!(matches!(case.request.url, Text(Cow::Owned(_))));
        assert_eq!(case.request.url.as_str(), "/A");
    }
}
