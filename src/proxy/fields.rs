//! The head of a request as the rules see it.

use crate::filter::Head;
use crate::net::{PlainHead, RequestHead};
use crate::rules::{Fields, is_same_name};

/// The head that the rules judge.
pub(super) fn judged_head(head: &RequestHead) -> Head<'_> {
    match head {
        RequestHead::Plain(plain) => Head {
            method: head.method(),
            target: plain.target(),
            version: head.version(),
            fields: plain,
        },
        RequestHead::Parts(parts) => Head::from(&**parts),
    }
}

impl Fields for PlainHead {
    /// Names in lower case, as they are in parts: however a head is kept, rules see the same.
    fn each(&self, visit: &mut dyn FnMut(&str, &[u8])) {
        let mut lower = String::new();
        for (name, value) in self.fields() {
            lower.clear();
            lower.extend(
                name.iter()
                    .map(|byte| char::from(byte.to_ascii_lowercase())),
            );
            visit(&lower, value);
        }
    }

    fn values(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        for (other, value) in self.fields() {
            if other.eq_ignore_ascii_case(name.as_bytes()) {
                visit(value);
            }
        }
    }

    fn variants(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        for (other, value) in self.fields() {
            if is_same_name(other, name.as_bytes()) {
                visit(value);
            }
        }
    }

    fn lone(&self, name: &str) -> Option<&[u8]> {
        let is_named = |(other, _): &(&[u8], &[u8])| is_same_name(other, name.as_bytes());
        let mut fields = self.fields().filter(is_named);
        let (_, value) = fields.next()?;
        fields.next().is_none().then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use http::header::HeaderMap;

    use super::*;

    /// What can be asked of fields.
    type Told = (
        Vec<(String, Vec<u8>)>,
        Vec<Vec<Vec<u8>>>,
        Vec<Option<Vec<u8>>>,
    );

    fn told(fields: &dyn Fields) -> Told {
        let names = ["host", "x-a", "cookie", "none"];
        let mut each: Vec<(String, Vec<u8>)> = Vec::new();
        fields.each(&mut |name, value| each.push((name.to_owned(), value.to_vec())));
        each.sort();
        let values = |name: &&str| {
            let mut values = Vec::new();
            fields.values(name, &mut |value| values.push(value.to_vec()));
            fields.variants(name, &mut |value| values.push(value.to_vec()));
            values
        };
        let lone = |name: &&str| fields.lone(name).map(<[u8]>::to_vec);
        (
            each,
            names.iter().map(values).collect(),
            names.iter().map(lone).collect(),
        )
    }

    #[test]
    fn rules_see_the_same_of_a_head_as_it_came_and_in_parts() {
        for fields in [
            "Host: m\r\n",
            "HOST: m\r\nX-A: 1\r\nx-a: 2\r\nCookie: a=b\r\n",
            "host: m\r\nX_A: 1\r\n",
            "host: m\r\nX_A: 1\r\nx-A: \t2 \r\ncookie:\r\n",
        ] {
            let text = format!("GET /a HTTP/1.1\r\n{fields}\r\n");
            let mut head = RequestHead::of_text(&text);
            let RequestHead::Plain(plain) = &head else {
                panic!("{text}");
            };
            let plain = told(plain);
            let parts: &HeaderMap = &head.parts().headers;
            assert_eq!(plain, told(parts), "{text}");
        }
    }
}
