//! Application pools that are stopped, and the paths that nobody serves because of that.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::canon::{Views, path_has_prefix};
use crate::model::MitigationId;

/// Which pools serve which paths: by the site that clients reach, and by the one behind it that the first hands on to.
///
/// In each, the pool with the longest prefix serves a path, so that `/` is served by its pool only where no other is.
///
/// # Examples
///
/// ```
/// use stopgap::filter::PoolTable;
///
/// let mut table = PoolTable::exchange();
/// assert!(table.knows("MSExchangeECPAppPool"));
/// table.set("app", &["/app".to_owned()]);
/// assert!(table.knows("APP"));
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PoolTable {
    front: Vec<Place>,
    back: Vec<Place>,
}

/// A path prefix and the pool that serves it.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Place {
    prefix: String,
    pool: String,
}

/// The site that clients reach (Exchange's `Default Web Site`), as its setup writes it.
const FRONT: &[(&str, &[&str])] = &[
    (
        "MSExchangeOWAAppPool",
        &["/", "/owa", "/owa/Integrated", "/owa/oma"],
    ),
    ("MSExchangeOWACalendarAppPool", &["/owa/Calendar"]),
    ("MSExchangeECPAppPool", &["/ecp"]),
    ("MSExchangeServicesAppPool", &["/EWS"]),
    ("MSExchangeAutodiscoverAppPool", &["/Autodiscover"]),
    ("MSExchangeSyncAppPool", &["/Microsoft-Server-ActiveSync"]),
    ("MSExchangeOABAppPool", &["/OAB"]),
    ("MSExchangePowerShellFrontEndAppPool", &["/PowerShell"]),
    ("MSExchangeMapiFrontEndAppPool", &["/mapi"]),
    ("MSExchangeRpcProxyFrontEndAppPool", &["/Rpc"]),
    ("MSExchangeRestFrontEndAppPool", &["/API"]),
];

/// The site behind it (`Exchange Back End`).
const BACK: &[(&str, &[&str])] = &[
    ("MSExchangeOWAAppPool", &["/owa"]),
    ("MSExchangeOWACalendarAppPool", &["/owa/Calendar"]),
    ("MSExchangeECPAppPool", &["/ecp"]),
    ("MSExchangeServicesAppPool", &["/EWS", "/EWS/bin"]),
    ("MSExchangeAutodiscoverAppPool", &["/Autodiscover"]),
    ("MSExchangeSyncAppPool", &["/Microsoft-Server-ActiveSync"]),
    ("MSExchangeOABAppPool", &["/OAB"]),
    ("MSExchangePowerShellAppPool", &["/PowerShell"]),
    ("MSExchangeMapiMailboxAppPool", &["/mapi/emsmdb"]),
    ("MSExchangeMapiAddressBookAppPool", &["/mapi/nspi"]),
    ("MSExchangeRpcProxyAppPool", &["/Rpc", "/RpcWithCert"]),
    ("MSExchangeRestAppPool", &["/API"]),
    (
        "MSExchangePushNotificationsAppPool",
        &["/PushNotifications"],
    ),
];

impl PoolTable {
    /// The pools of Exchange Server 2016 and 2019.
    ///
    /// Source: `applicationHost.config` of Exchange 2019, as its health checker's test data records it.
    pub fn exchange() -> Self {
        let places = |table: &[(&str, &[&str])]| {
            let rows = table.iter();
            rows.flat_map(|(pool, prefixes)| places(pool, prefixes.iter().copied()))
                .collect()
        };
        Self {
            front: places(FRONT),
            back: places(BACK),
        }
    }

    /// Says which prefixes a pool serves, in place of what the table said: in each site where it had any, otherwise in
    /// the one that clients reach. Names of pools have no letter case.
    pub fn set(&mut self, pool: &str, prefixes: &[String]) {
        let is_pool = |place: &Place| place.pool.eq_ignore_ascii_case(pool);
        let only_behind = self.back.iter().any(is_pool) && !self.front.iter().any(is_pool);
        for (site, serves) in [
            (&mut self.front, !only_behind),
            (&mut self.back, only_behind),
        ] {
            let had = site.iter().any(is_pool);
            site.retain(|place| !is_pool(place));
            if had || serves {
                site.extend(places(pool, prefixes.iter().map(String::as_str)));
            }
        }
    }

    /// Whether any path is known to be served by a pool of this name.
    pub fn knows(&self, pool: &str) -> bool {
        let mut places = self.front.iter().chain(&self.back);
        places.any(|place| place.pool.eq_ignore_ascii_case(pool))
    }
}

fn places<'a>(pool: &str, prefixes: impl Iterator<Item = &'a str>) -> impl Iterator<Item = Place> {
    prefixes.map(move |prefix| Place {
        prefix: prefix.to_owned(),
        pool: pool.to_owned(),
    })
}

/// One pool that is stopped, and on whose behalf.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use stopgap::filter::{Paused, PausedPool, PoolTable};
///
/// let pool = PausedPool {
///     pool: "MSExchangeECPAppPool".to_owned(),
///     mitigation: "M90.1".parse()?,
///     source: "feed".to_owned(),
///     hits: Arc::default(),
/// };
/// let paused = Paused::new(&PoolTable::exchange(), [pool]);
/// assert!(paused.find(b"/owa/%2e%2e/ECP/x").is_some());
/// assert!(paused.find(b"/owa/").is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct PausedPool {
    /// The pool.
    pub pool: String,
    /// The mitigation that stops it.
    pub mitigation: MitigationId,
    /// The feed or file that the mitigation came from.
    pub source: String,
    /// Counts the requests that are not served because of it.
    pub hits: Arc<AtomicU64>,
}

/// The paths that nobody serves on one site.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use stopgap::filter::{Paused, PausedPool, PoolTable};
///
/// let pool = PausedPool {
///     pool: "MSExchangeECPAppPool".to_owned(),
///     mitigation: "M90.1".parse()?,
///     source: "feed".to_owned(),
///     hits: Arc::default(),
/// };
/// let paused = Paused::new(&PoolTable::exchange(), [pool]);
/// assert!(paused.find(b"/owa/%2e%2e/ECP/x").is_some());
/// assert!(paused.find(b"/owa/").is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Paused {
    /// The two sites of the table, each with every prefix and the pool there if that is stopped.
    sites: [Vec<(String, Option<Arc<PausedPool>>)>; 2],
}

impl Paused {
    /// The paths that these pools serve by `table`. A pool without one pauses nothing; of two with one name, the first
    /// is told.
    pub fn new(table: &PoolTable, pools: impl IntoIterator<Item = PausedPool>) -> Self {
        let pools: Vec<Arc<PausedPool>> = pools.into_iter().map(Arc::new).collect();
        let site = |places: &[Place]| {
            let stopped = |place: &Place| {
                let named = |pool: &&Arc<PausedPool>| pool.pool.eq_ignore_ascii_case(&place.pool);
                pools.iter().find(named).cloned()
            };
            let places: Vec<_> = places
                .iter()
                .map(|place| (place.prefix.clone(), stopped(place)))
                .collect();
            match places.iter().any(|(_, stopped)| stopped.is_some()) {
                true => places,
                false => Vec::new(),
            }
        };
        Self {
            sites: [site(&table.front), site(&table.back)],
        }
    }

    /// Whether every path is served.
    pub fn is_empty(&self) -> bool {
        self.sites.iter().all(Vec::is_empty)
    }

    /// The stopped pool that a target in origin form leads to, in any of its hardened views.
    pub fn find(&self, target: &[u8]) -> Option<&Arc<PausedPool>> {
        if self.is_empty() {
            return None;
        }
        let views = Views::hardened(target);
        views.iter().find_map(|view| {
            let mut sites = self.sites.iter();
            sites.find_map(|site| serving(site, &view.path))
        })
    }
}

/// The stopped pool with the longest prefix that covers `path`; nothing if a pool that is not stopped has it alone.
fn serving<'p>(
    site: &'p [(String, Option<Arc<PausedPool>>)],
    path: &[u8],
) -> Option<&'p Arc<PausedPool>> {
    // A slash at the end means nothing, so that `/` is the shortest of all.
    let length = |prefix: &str| prefix.trim_end_matches('/').len();
    let covers = |(prefix, _): &&(String, _)| path_has_prefix(path, prefix.as_bytes());
    let longest = site
        .iter()
        .filter(covers)
        .map(|(prefix, _)| length(prefix))
        .max()?;
    let mut decisive = site
        .iter()
        .filter(|(prefix, _)| length(prefix) == longest)
        .filter(covers);
    decisive.find_map(|(_, stopped)| stopped.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paused(table: &PoolTable, pools: &[&str]) -> Paused {
        let pools = pools.iter().map(|pool| PausedPool {
            pool: (*pool).to_owned(),
            mitigation: "M90.1".parse().unwrap(),
            source: "test".to_owned(),
            hits: Arc::default(),
        });
        Paused::new(table, pools)
    }

    /// The pool that stops a target, or nothing.
    fn found<'p>(paused: &'p Paused, target: &str) -> &'p str {
        let found = paused.find(target.as_bytes());
        found.map_or("", |pool| pool.pool.as_str())
    }

    #[test]
    fn longest_prefix_decides() {
        let table = PoolTable::exchange();
        for (pool, target, stopped) in [
            ("MSExchangeECPAppPool", "/ecp", true),
            ("MSExchangeECPAppPool", "/ECP/default.aspx?a", true),
            ("MSExchangeECPAppPool", "/ecpx", false),
            ("MSExchangeECPAppPool", "/owa/ecp", false),
            ("MSExchangeOWAAppPool", "/", true),
            ("MSExchangeOWAAppPool", "/favicon.ico", true),
            ("MSExchangeOWAAppPool", "/owa/auth/logon.aspx", true),
            ("MSExchangeOWAAppPool", "/owa/calendar/a", false),
            ("MSExchangeOWAAppPool", "/ecp", false),
            ("MSExchangeOWACalendarAppPool", "/owa/Calendar", true),
            ("MSExchangeOWACalendarAppPool", "/owa/calendars", false),
            ("msexchangeservicesapppool", "/ews/Exchange.asmx", true),
            (
                "MSExchangeMapiFrontEndAppPool",
                "/mapi/emsmdb/?MailboxId=1",
                true,
            ),
            ("MSExchangeMapiMailboxAppPool", "/mapi/emsmdb/", true),
            ("MSExchangeMapiMailboxAppPool", "/mapi/nspi/", false),
            ("MSExchangeRpcProxyAppPool", "/rpc/rpcproxy.dll", true),
            ("MSExchangePowerShellAppPool", "/powershell", true),
            ("Unknown", "/", false),
        ] {
            let expected = if stopped { pool } else { "" };
            assert_eq!(
                found(&paused(&table, &[pool]), target),
                expected,
                "{target}"
            );
        }
        assert!(paused(&table, &[]).is_empty() && paused(&table, &["Unknown"]).is_empty());
        let two = paused(&table, &["MSExchangeECPAppPool", "MSExchangeOABAppPool"]);
        assert_eq!(found(&two, "/oab/x"), "MSExchangeOABAppPool");
    }

    #[test]
    fn every_view_counts() {
        let ecp = paused(&PoolTable::exchange(), &["MSExchangeECPAppPool"]);
        for target in [
            "/%65cp/",
            "/%2565cp/",
            "/owa/../ecp/x",
            "/owa/%2e%2e/ecp/x",
            "//ecp//x",
            "/ecp;a=b/x",
            "/(S(abc))/ecp/x",
            "\\ecp",
        ] {
            assert_eq!(found(&ecp, target), "MSExchangeECPAppPool", "{target}");
        }
        for target in ["/owa/?u=/ecp/", "/owa/x%2fecp", "*", ""] {
            assert_eq!(found(&ecp, target), "", "{target}");
        }
    }

    #[test]
    fn settings_win_over_the_table() {
        let mut table = PoolTable::exchange();
        table.set("app", &["/app".to_owned()]);
        table.set("msexchangeecpapppool", &["/admin/".to_owned()]);
        table.set("MSExchangeMapiMailboxAppPool", &["/mapi".to_owned()]);
        table.set("MSExchangeOABAppPool", &[]);
        assert!(table.knows("APP") && !table.knows("MSExchangeOABAppPool"));
        for (pool, target, stopped) in [
            ("app", "/app/x", true),
            ("app", "/", false),
            ("MSExchangeOWAAppPool", "/app/x", false),
            ("MSExchangeOWAAppPool", "/ecp", true),
            ("MSExchangeECPAppPool", "/ecp", false),
            ("MSExchangeECPAppPool", "/admin", true),
            ("MSExchangeMapiMailboxAppPool", "/mapi/x", true),
            ("MSExchangeMapiAddressBookAppPool", "/mapi/nspi", true),
            ("MSExchangeOABAppPool", "/oab", false),
        ] {
            let is_stopped = !found(&paused(&table, &[pool]), target).is_empty();
            assert_eq!(is_stopped, stopped, "{pool} {target}");
        }
    }
}
