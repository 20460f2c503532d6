//! The same documents under independent programs, xmlsec1 and Java's XML signature API: what we sign xmlsec1 accepts, and
//! what they sign we accept if it follows the profile, and only then.
//!
//! Where a program is missing its tests are skipped with a visible line; `STOPGAP_REQUIRE_SIGNERS` makes that a failure.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use stopgap::signature::{Fault, TrustAnchors, Verifier, XmlDsigPolicy};
use stopgap::xml::{Document, Limits, canonicalize};

use super::{DOCUMENT, NOW, fault, rsa, verify};
use crate::support::signer::{Algorithm, Options, Publisher, signed_info};

/// Makes a missing signer a failure.
const REQUIRED: &str = "STOPGAP_REQUIRE_SIGNERS";

/// Whether a program is there and says what it must be able to do.
fn has(program: &str, probe: &str, able: &[&str]) -> bool {
    let output = Command::new(program).arg(probe).output();
    let said = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    if said.is_ok_and(|said| able.iter().all(|word| said.contains(word))) {
        return true;
    }
    assert!(
        std::env::var_os(REQUIRED).is_none(),
        "{REQUIRED} is set: install {program}"
    );
    // Not by the macro, whose output the test harness keeps to itself.
    let text = format!("SKIPPED: documents of an independent signer need {program}\n");
    std::io::stderr().write_all(text.as_bytes()).unwrap();
    false
}

fn has_xmlsec1() -> bool {
    has("xmlsec1", "--version", &["xmlsec1"])
}

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
fn xmlsec1_accepts_what_we_sign() {
    if !has_xmlsec1() {
        return;
    }
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

const XMLDSIG: &str = "http://www.w3.org/2000/09/xmldsig#";
const CANONICAL: &str = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315";

/// What xmlsec1 is asked to make: a name, how the template differs from the accepted one, and what becomes of it.
type Template = (&'static str, fn(&str) -> String, Result<(), Fault>);

const TEMPLATES: &[Template] = &[
    ("the profile", str::to_owned, Ok(())),
    (
        "exclusive C14N",
        |t| t.replacen(CANONICAL, "http://www.w3.org/2001/10/xml-exc-c14n#", 1),
        Err(Fault::Profile),
    ),
    (
        "C14N with comments",
        |t| {
            let transform = format!("<Transform Algorithm=\"{CANONICAL}\"");
            t.replace(
                &transform,
                &format!("<Transform Algorithm=\"{CANONICAL}#WithComments\""),
            )
        },
        Err(Fault::Profile),
    ),
    (
        "SHA-1 digest",
        |t| {
            t.replace(
                "http://www.w3.org/2001/04/xmlenc#sha256",
                &format!("{XMLDSIG}sha1"),
            )
        },
        Err(Fault::Profile),
    ),
    (
        "SHA-512 signature",
        |t| t.replace("#rsa-sha256", "#rsa-sha512"),
        Err(Fault::Profile),
    ),
    (
        "RSA-SHA1",
        |t| {
            t.replace(
                "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
                &format!("{XMLDSIG}rsa-sha1"),
            )
        },
        Err(Fault::Profile),
    ),
    (
        "one more transform",
        |t| {
            t.replace(
                "</Transforms>",
                &format!("<Transform Algorithm=\"{CANONICAL}\"/></Transforms>"),
            )
        },
        Err(Fault::Profile),
    ),
    (
        "an XPath transform",
        |t| {
            t.replace(
                "<Transforms>",
                "<Transforms><Transform Algorithm=\"http://www.w3.org/TR/1999/REC-xpath-19991116\">\
                 <XPath>not(self::Action)</XPath></Transform>",
            )
        },
        Err(Fault::Profile),
    ),
    (
        "two references",
        |t| {
            let start = t.find("<Reference").unwrap();
            let end = t.find("</SignedInfo>").unwrap();
            let reference = &t[start..end];
            t.replace(reference, &reference.repeat(2))
        },
        Err(Fault::Profile),
    ),
    (
        "the key alone",
        |t| t.replace("<X509Data><X509Certificate/></X509Data>", "<KeyValue/>"),
        Err(Fault::Profile),
    ),
    (
        "enveloping",
        |t| {
            let start = t.find("<Signature ").unwrap();
            let end = t.rfind("</EOCS>").unwrap();
            let signature = &t[start..end];
            let content = t[t.find("<EOCS").unwrap()..].replace(signature, "");
            let enveloped = format!("<Transform Algorithm=\"{XMLDSIG}enveloped-signature\" />");
            signature
                .replace("URI=\"\"", "URI=\"#content\"")
                .replace(&enveloped, "")
                .replace(
                    "</Signature>",
                    &format!("<Object Id=\"content\">{content}</Object></Signature>"),
                )
        },
        Err(Fault::Profile),
    ),
];

#[test]
fn we_accept_what_xmlsec1_signs_by_the_profile_alone() {
    if !has_xmlsec1() {
        return;
    }
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
        "{open}<Signature xmlns=\"{XMLDSIG}\">{}<SignatureValue/>\
         <KeyInfo><X509Data><X509Certificate/></X509Data></KeyInfo></Signature></{close}",
        signed_info(Algorithm::Rsa, "")
    );
    for (name, change, expected) in TEMPLATES {
        write("template.xml", change(&template).as_bytes());
        let arguments = [
            "--sign",
            "--privkey-pem",
            "key.pem,leaf.pem,intermediate.pem",
            "--output",
            "signed.xml",
            "template.xml",
        ];
        assert!(xmlsec1(folder.path(), &arguments), "{name}: not signed");
        let signed = std::fs::read_to_string(folder.path().join("signed.xml")).unwrap();
        let result = verify(&publisher, signed.as_bytes());
        assert_eq!(fault(result), *expected, "{name}");
        if expected.is_ok() {
            let changed = signed.replace("PING1", "PING2");
            let result = verify(&publisher, changed.as_bytes());
            assert_eq!(fault(result), Err(Fault::Digest), "{name}");
        }
    }
}

/// What `XmlSigner.java` makes, and what becomes of it.
const JAVA: &[(&str, Result<(), Fault>)] = &[
    ("rsa", Ok(())),
    ("ec", Ok(())),
    ("prefixed", Ok(())),
    ("key-value", Ok(())),
    ("exclusive", Err(Fault::Profile)),
    ("exclusive-transform", Err(Fault::Profile)),
    ("with-comments", Err(Fault::Profile)),
    ("canonical-1.1", Err(Fault::Profile)),
    ("one-transform", Err(Fault::Profile)),
    ("extra-transform", Err(Fault::Profile)),
    ("xpath", Err(Fault::Profile)),
    ("sha1-digest", Err(Fault::Profile)),
    ("sha512-digest", Err(Fault::Profile)),
    ("rsa-sha1", Err(Fault::Profile)),
    ("rsa-sha512", Err(Fault::Profile)),
    ("rsa-pss", Err(Fault::Profile)),
    ("two-references", Err(Fault::Profile)),
    ("by-id", Err(Fault::Profile)),
    ("no-certificate", Err(Fault::Profile)),
    ("object", Err(Fault::Profile)),
    ("enveloping", Err(Fault::Profile)),
];

#[test]
fn we_accept_what_java_signs_by_the_profile_alone() {
    // A Java runtime alone does not run a source file.
    let modules = ["java.xml.crypto", "jdk.compiler"];
    if !has("java", "--list-modules", &modules) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let publishers = [
        ("rsa", Publisher::with(rsa(Options::default()))),
        ("ec", Publisher::with(Options::default())),
    ];
    let write = |name: &str, content: &[u8]| {
        std::fs::write(folder.path().join(name), content).unwrap();
    };
    write("document.xml", DOCUMENT.as_bytes());
    for (name, publisher) in &publishers {
        let [key, leaf, intermediate] = publisher.signer_der();
        write(&format!("{name}.key"), &key);
        write(&format!("{name}.leaf"), &leaf);
        write(&format!("{name}.intermediate"), &intermediate);
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/signer/XmlSigner.java");
    // Little of everything, since the tests beside this one want to run too.
    let output = Command::new("java")
        .args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
        .arg(source)
        .arg(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");

    let roots = publishers.each_ref().map(|(_, own)| own.root_der());
    let policy = XmlDsigPolicy {
        roots: TrustAnchors::from_der(roots).unwrap(),
        ..XmlDsigPolicy::default()
    };
    let verifier = Verifier::xmldsig_x509(policy).unwrap();
    let genuine = Document::parse(DOCUMENT.as_bytes(), &Limits::default()).unwrap();
    for (name, expected) in JAVA {
        let signed = std::fs::read_to_string(folder.path().join(format!("{name}.xml"))).unwrap();
        let result = verifier.verify(signed.as_bytes(), NOW, None);
        if let Ok(verified) = &result {
            assert_eq!(verified.value(), &canonicalize(&genuine), "{name}");
            let changed = signed.replace("PING1", "PING2");
            let result = verifier.verify(changed.as_bytes(), NOW, None);
            assert_eq!(fault(result), Err(Fault::Digest), "{name}");
        }
        assert_eq!(fault(result), *expected, "{name}");
    }
}
