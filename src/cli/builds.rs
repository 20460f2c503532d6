//! What servers show of the product that they run, as `stopgap status` lists it.

use serde::Deserialize;

use super::table::Table;

/// One server; newer instances may say more.
#[derive(Debug, Deserialize)]
pub(super) struct Build {
    site: String,
    server: String,
    product: String,
    build: Option<String>,
    place: Option<String>,
    learned: Option<String>,
    fault: Option<String>,
}

pub(super) fn table(builds: &[Build]) -> Table {
    let mut table = Table::new(&[
        "server", "site", "product", "build", "found in", "learned", "remark",
    ]);
    let or = |text: &Option<String>, other: &str| text.clone().unwrap_or_else(|| other.to_owned());
    for build in builds {
        table.row(vec![
            build.server.clone(),
            build.site.clone(),
            build.product.clone(),
            or(&build.build, "unknown"),
            or(&build.place, "-"),
            or(&build.learned, "-"),
            or(&build.fault, "-"),
        ]);
    }
    table
}

/// What to tell about a mitigation that an operator may retire.
pub(super) fn proposal(id: &str, servers: &str) -> String {
    format!("fixed on every server ({servers}): `stopgap mitigation retire {id}` retires it")
}
