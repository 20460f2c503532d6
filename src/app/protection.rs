//! Extended Protection: whether a login is bound to the certificate that the server itself has.
//!
//! Windows binds a login to the TLS connection by a digest of the certificate that the client was shown (RFC 5929
//! section 4). Behind a proxy that is the server's own only when both show the same one.

use std::time::Duration;

use crate::config::{Config, SiteConfig};
use crate::net::TlsClient;

/// Time for one server.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a comparison came to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Comparison {
    /// Servers whose certificate clients are shown, too.
    pub same: Vec<String>,
    /// Servers whose certificate clients are not shown: each as a sentence with the remedy.
    pub different: Vec<String>,
    /// Servers that could not be asked: each with the reason.
    pub unknown: Vec<String>,
}

/// Compares what TLS listeners show with what the servers behind them show.
///
/// Where no listener speaks TLS, or no server does, there is nothing to compare.
pub async fn compare_certificates(config: &Config) -> Comparison {
    let mut comparison = Comparison::default();
    let files = config.listeners.iter().flat_map(|listener| &listener.tls);
    // Whoever serves them says so when a file cannot be used.
    let shown: Vec<Vec<u8>> = files.filter_map(|files| files.leaf().ok()).collect();
    if shown.is_empty() {
        return comparison;
    }
    for server in config.sites.iter().flat_map(SiteConfig::servers) {
        let Some(tls) = &server.tls else {
            continue;
        };
        let name = tls.name.as_deref().unwrap_or(&server.host);
        let found = match TlsClient::load(tls.authorities.as_deref(), name) {
            Ok(client) => tokio::time::timeout(PATIENCE, client.leaf(&server.host, server.port))
                .await
                .map_err(|_| "it did not answer in time".to_owned())
                .and_then(|leaf| leaf.map_err(|error| error.to_string())),
            Err(error) => Err(error.to_string()),
        };
        match found {
            Ok(leaf) if shown.contains(&leaf) => comparison.same.push(server.to_string()),
            Ok(_) => comparison.different.push(format!(
                "{server} shows a certificate that no listener shows: logins with Extended Protection fail; give the listener the server's own certificate and key"
            )),
            Err(reason) => comparison.unknown.push(format!("{server}: {reason}")),
        }
    }
    comparison
}

/// Compares once, and logs what differs.
pub(super) async fn warn_of_certificates(config: Config) {
    let comparison = compare_certificates(&config).await;
    for different in comparison.different {
        tracing::warn!(different, "certificates differ");
    }
    for unknown in comparison.unknown {
        tracing::info!(unknown, "no certificate to compare");
    }
}
