//! The same documents under an independent program: what we sign it accepts, and what it signs we accept.
//!
//! Run with `cargo test --test it xmlsec -- --ignored` where `xmlsec1` is installed.

use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use stopgap::signature::Fault;

use super::{DOCUMENT, fault, rsa, verify};
use crate::support::signer::{Algorithm, Options, Publisher, signed_info};

fn xmlsec1(folder: &Path, arguments: &[&str]) -> bool {
    let output = Command::new("xmlsec1")
        .current_dir(folder)
        .args(arguments)
        .output()
        .expect("xmlsec1 is installed");
    println!("{}", String::from_utf8_lossy(&output.stderr));
    output.status.success()
}

fn pem(label: &str, der: &[u8]) -> String {
    let digits = STANDARD.encode(der);
    let lines: Vec<&str> = digits
        .as_bytes()
        .chunks(64)
        .map(|line| str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

#[test]
#[ignore = "needs the program xmlsec1"]
fn xmlsec1_accepts_what_we_sign() {
    let folder = tempfile::tempdir().unwrap();
    let check = |document: &[u8]| {
        std::fs::write(folder.path().join("signed.xml"), document).unwrap();
        let arguments = [
            "--verify",
            "--enabled-key-data",
            "x509",
            "--trusted-der",
            "root.der",
            "signed.xml",
        ];
        xmlsec1(folder.path(), &arguments)
    };
    for options in [Options::default(), rsa(Options::default())] {
        let publisher = Publisher::with(options);
        std::fs::write(folder.path().join("root.der"), publisher.root_der()).unwrap();
        let signed = publisher.sign(DOCUMENT);
        assert!(check(&signed));
        let changed = String::from_utf8(signed).unwrap().replace("PING1", "PING2");
        assert!(!check(changed.as_bytes()));
    }
}

#[test]
#[ignore = "needs the program xmlsec1"]
fn we_accept_what_xmlsec1_signs() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| {
        std::fs::write(folder.path().join(name), content).unwrap();
    };
    let publisher = Publisher::with(rsa(Options::default()));
    let [key, leaf, intermediate] = publisher.signer_der();
    write("key.pem", pem("PRIVATE KEY", &key).as_bytes());
    write("leaf.pem", pem("CERTIFICATE", &leaf).as_bytes());
    write(
        "intermediate.pem",
        pem("CERTIFICATE", &intermediate).as_bytes(),
    );
    let (open, close) = DOCUMENT.rsplit_once("</").unwrap();
    let template = format!(
        "{open}<Signature xmlns=\"http://www.w3.org/2000/09/xmldsig#\">{}<SignatureValue/>\
         <KeyInfo><X509Data><X509Certificate/></X509Data></KeyInfo></Signature></{close}",
        signed_info(Algorithm::Rsa, "")
    );
    write("template.xml", template.as_bytes());
    let key = "key.pem,leaf.pem,intermediate.pem";
    assert!(xmlsec1(
        folder.path(),
        &[
            "--sign",
            "--privkey-pem",
            key,
            "--output",
            "signed.xml",
            "template.xml"
        ]
    ));
    let signed = std::fs::read_to_string(folder.path().join("signed.xml")).unwrap();
    assert_eq!(fault(verify(&publisher, signed.as_bytes())), Ok(()));
    let changed = signed.replace("PING1", "PING2");
    assert_eq!(
        fault(verify(&publisher, changed.as_bytes())),
        Err(Fault::Digest)
    );
}
