//! Header maps as the rules see them.

use http::HeaderMap;

use crate::rules::{Fields, is_same_name};

impl Fields for HeaderMap {
    fn each(&self, visit: &mut dyn FnMut(&str, &[u8])) {
        for (name, value) in self {
            visit(name.as_str(), value.as_bytes());
        }
    }

    fn values(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        for value in self.get_all(name) {
            visit(value.as_bytes());
        }
    }

    fn lone(&self, name: &str) -> Option<&[u8]> {
        // Most names have no sign that stands for another, and are looked up at once.
        if !name.contains('-') {
            let mut values = self.get_all(name).iter();
            let value = values.next()?;
            return values.next().is_none().then_some(value.as_bytes());
        }
        let mut fields = self
            .iter()
            .filter(|(other, _)| is_same_name(other.as_str().as_bytes(), name.as_bytes()));
        let (_, value) = fields.next()?;
        fields.next().is_none().then_some(value.as_bytes())
    }
}
