//! Which upstream answers a request of a site.

use std::sync::Arc;

use super::metrics::Meters;
use super::standing::Group;
use super::{BuiltIn, ProxyError, Server, ServerGroup, Site, Upstream};
use crate::canon::{self, Views};
use crate::net::TlsClient;

/// Every upstream once, and the way to it.
pub(super) struct Routes {
    sites: Vec<SiteRoutes>,
    upstreams: Vec<Destination>,
}

/// Who answers.
pub(super) enum Destination {
    BuiltIn(BuiltIn),
    Servers(Arc<Group>),
}

/// Upstreams by their index.
struct SiteRoutes {
    /// Longest first.
    prefixes: Vec<(String, usize)>,
    rest: usize,
}

impl Routes {
    /// # Errors
    ///
    /// When what is needed to verify a server cannot be used.
    pub(super) fn new(sites: &[Site], meters: &Meters) -> Result<Self, ProxyError> {
        let mut routes = Self {
            sites: Vec::new(),
            upstreams: Vec::new(),
        };
        for site in sites {
            let mut prefixes = Vec::new();
            for route in &site.routes {
                let upstream = routes.destination(&route.upstream, meters)?;
                prefixes.extend(route.paths.iter().map(|path| (path.clone(), upstream)));
            }
            // Stable: of two equal prefixes, the first has it.
            prefixes.sort_by_key(|(path, _)| std::cmp::Reverse(path.trim_end_matches('/').len()));
            let rest = routes.destination(&site.upstream, meters)?;
            routes.sites.push(SiteRoutes { prefixes, rest });
        }
        Ok(routes)
    }

    fn destination(&mut self, upstream: &Upstream, meters: &Meters) -> Result<usize, ProxyError> {
        let destination = match upstream {
            Upstream::BuiltIn(built_in) => Destination::BuiltIn(Arc::clone(built_in)),
            Upstream::Servers(group) => {
                let same = |known: &Destination| matches!(known, Destination::Servers(known) if !group.name.is_empty() && known.settings.name == group.name);
                if let Some(known) = self.upstreams.iter().position(same) {
                    return Ok(known);
                }
                Destination::Servers(Group::new(group.clone(), tls_clients(group)?, meters))
            }
        };
        self.upstreams.push(destination);
        Ok(self.upstreams.len() - 1)
    }

    /// The index of the upstream that answers this target of a site.
    pub(super) fn find(&self, site: usize, target: &[u8]) -> usize {
        let SiteRoutes { prefixes, rest } = &self.sites[site];
        if prefixes.is_empty() {
            return *rest;
        }
        let view = Views::iis(target);
        let covers =
            |(prefix, _): &&(String, usize)| canon::path_has_prefix(&view.path, prefix.as_bytes());
        let found = prefixes.iter().find(covers);
        found.map_or(*rest, |(_, upstream)| *upstream)
    }

    /// Every upstream, in the order of their indices.
    pub(super) fn upstreams(&self) -> &[Destination] {
        &self.upstreams
    }

    /// Every group of servers.
    pub(super) fn groups(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.upstreams.iter().filter_map(|upstream| match upstream {
            Destination::BuiltIn(_) => None,
            Destination::Servers(group) => Some(group),
        })
    }
}

impl std::fmt::Debug for Routes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.groups()).finish()
    }
}

fn tls_clients(group: &ServerGroup) -> Result<Vec<Option<TlsClient>>, ProxyError> {
    let client = |server: &Server| {
        let Some(tls) = &server.tls else {
            return Ok(None);
        };
        let name = tls.name.as_deref().unwrap_or(&server.host);
        TlsClient::load(tls.authorities.as_deref(), name)
            .map(Some)
            .map_err(|error| ProxyError::server_tls(server, error))
    };
    group.servers().map(client).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::Route;
    use crate::telemetry::Metrics;

    fn servers(name: &str) -> Upstream {
        Upstream::Servers(ServerGroup {
            name: name.to_owned(),
            ..ServerGroup::default()
        })
    }

    fn site(upstream: Upstream, routes: &[(&[&str], &str)]) -> Site {
        let route = |(paths, name): &(&[&str], &str)| Route {
            paths: paths.iter().map(|&path| path.to_owned()).collect(),
            upstream: servers(name),
        };
        Site {
            name: "a".to_owned(),
            hosts: Vec::new(),
            upstream,
            routes: routes.iter().map(route).collect(),
        }
    }

    #[test]
    fn longest_prefix_of_whole_segments_wins_however_it_is_written() {
        let routes = [
            (&["/owa", "/ecp/"][..], "mail"),
            (&["/owa/api", "/"], "api"),
            (&["/OWA"], "late"),
        ];
        let sites = [site(servers("rest"), &routes), site(servers("mail"), &[])];
        let routes = Routes::new(&sites, &Meters::register(&Metrics::default())).unwrap();
        let name = |site, target| match &routes.upstreams()[routes.find(site, target)] {
            Destination::Servers(group) => group.settings.name.clone(),
            Destination::BuiltIn(_) => String::new(),
        };
        for (target, expected) in [
            ("/owa", "mail"),
            ("/OWA/x?/owa/api", "mail"),
            ("/ecp", "mail"),
            ("/owa/API/v2", "api"),
            ("/o%77a/x", "mail"),
            ("/x/..%2fowa//api", "api"),
            ("/owapi", "api"),
            ("*", "api"),
        ] {
            assert_eq!(name(0, target.as_bytes()), expected, "{target}");
        }
        assert_eq!(name(1, b"/owa/api"), "mail");
        assert_eq!(routes.groups().count(), 4, "groups of one name are one");
    }
}
