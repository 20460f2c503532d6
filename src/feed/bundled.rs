//! The mitigations that are compiled into the program.

/// One document of `rules/baseline`, with its name there.
macro_rules! bundled {
    ($id:literal) => {
        (
            concat!("rules/baseline/", $id, "/mitigation.xml"),
            include_bytes!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/rules/baseline/",
                $id,
                "/mitigation.xml"
            )),
        )
    };
}

/// The bundled documents, each with the name that errors show: one mitigation in each, judged hardened.
///
/// [`LocalDocument::parse`](super::LocalDocument::parse) reads them, since they are trusted for where they lie. Their
/// own vectors and the corpora prove them; see `rules/README.md`.
pub const BUNDLED: &[(&str, &[u8])] = &[
    bundled!("EOMT1.1"),
    bundled!("EOMT1.2"),
    bundled!("M1.1"),
    bundled!("M2.1"),
    bundled!("PING1"),
    bundled!("SG1.1"),
    bundled!("SG2.1"),
    bundled!("SG3.1"),
    bundled!("SG4.1"),
    bundled!("SG5.1"),
    bundled!("SG6.1"),
    bundled!("SG7.1"),
    bundled!("SG8.1"),
    bundled!("SG9.1"),
    bundled!("SG10.1"),
    bundled!("SG11.1"),
    bundled!("SG12.1"),
    bundled!("SG13.1"),
    bundled!("SG14.1"),
    bundled!("SG15.1"),
    bundled!("SG16.1"),
    bundled!("SG17.1"),
];

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_document_of_the_folder_is_bundled() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules/baseline");
        let mut found: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .map(|id| format!("rules/baseline/{id}/mitigation.xml"))
            .collect();
        let mut bundled: Vec<&str> = BUNDLED.iter().map(|(name, _)| *name).collect();
        found.sort();
        bundled.sort_unstable();
        assert_eq!(found, bundled);
    }
}
