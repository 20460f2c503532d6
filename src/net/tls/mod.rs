//! Turns certificates and trust into TLS connections, to clients and to servers.
//!
//! Layer 1. Part of net.
//! Holds: a certificate is shown only with its own key; a peer we connect to is verified, always, unless it is this process;
//!        new certificates take effect for new connections, and a file that cannot be used for none.
//! See `guide::operations` for the settings.

mod certificates;
mod client;
mod error;
mod mutual;
mod server;

pub use certificates::CertificateFiles;
pub use client::TlsClient;
pub use error::TlsError;
pub use mutual::{Fingerprint, MutualClient, MutualServer, PeerTrust};
pub use server::{ClientCertificates, TlsServer};

/// The application protocols offered and accepted (RFC 7301), the preferred one first.
fn protocols(http2: bool) -> Vec<Vec<u8>> {
    let names: &[&[u8]] = if http2 {
        &[b"h2", b"http/1.1"]
    } else {
        &[b"http/1.1"]
    };
    names.iter().map(|name| name.to_vec()).collect()
}

/// The one provider of cryptography in this process.
fn provider() -> std::sync::Arc<rustls::crypto::CryptoProvider> {
    std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// SHA-256 by that provider.
fn sha256(bytes: &[u8]) -> [u8; 32] {
    use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let suite = TLS13_AES_128_GCM_SHA256
        .tls13()
        .expect("the suite is one of TLS 1.3");
    let output = suite.common.hash_provider.hash(bytes);
    let mut digest = [0; 32];
    digest.copy_from_slice(output.as_ref());
    digest
}
