//! Forms of attacks and honest requests beside those of the corpora, each found by an attack of our own on the bundled
//! rules.

use serde_json::{Value, json};

use super::evasion::{Judges, Outcome};

/// Method, target, fields.
type Row = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

/// What must not reach a server.
const STOPPED: &[Row] = &[
    // .NET reads a backslash in a URL as a slash, so the path that is left is the same.
    (
        "GET",
        r"/autodiscover/autodiscover.json?a@b.example\owa\?&x=y",
        &[],
    ),
    (
        "GET",
        "/autodiscover/autodiscover.json?a@b.example%5Cmapi%5Cnspi",
        &[],
    ),
    (
        "GET",
        "/autodiscover/autodiscover.json?a@b.example%255cews%255c",
        &[],
    ),
    (
        "POST",
        "/autodiscover/autodiscover.json?a%40b.example%EF%BC%BCecp",
        &[],
    ),
    // The question mark as a part of the path.
    (
        "GET",
        "/autodiscover/autodiscover.json%3Fa@b.example/owa/?&x=y",
        &[],
    ),
    (
        "GET",
        "/autodiscover/autodiscover.json%253fa@b.example%252fecp%252f",
        &[],
    ),
    (
        "GET",
        "/autodiscover/autodiscover.json;x@b.example/powershell/",
        &[],
    ),
    // Cookies by which a client chose the back end, in fields and forms of their own.
    (
        "GET",
        "/ecp/y.js",
        &[("Cookie", "a=b"), ("cookie", "X-BEResource=h:444/x")],
    ),
    ("GET", "/ecp/y.js", &[("Cookie", "X-BEResource = h/x~1")]),
    (
        "GET",
        "/owa/auth/x.js",
        &[("COOKIE", "x-anonresource-backend=h")],
    ),
    ("GET", "/rpc/x", &[("Cookie", "X-BEResource=h%252Fx~1")]),
    // The fields of the back end, in a spelling that IIS gives to the same variable.
    ("POST", "/ecp/", &[("X_CommonAccessToken", "VgEA")]),
    ("POST", "/mapi/emsmdb/", &[("x-rps-cat", "VgEA")]),
    ("GET", "/owa/?x=1;%58-Rps-CAT%20=VgEA", &[]),
    // Remote PowerShell behind every application.
    ("POST", "/rpcwithcert/a@b.example/PowerShell", &[]),
    ("POST", "/autodiscover/a@b.example/%70owershell/", &[]),
    ("POST", "/owa/a@b.example\\powershell", &[]),
    // Pages where Exchange has none.
    ("GET", "/ecp/auth/x.ashx?c=x", &[]),
    ("GET", "/owa/auth/Current/themes/x.aspx", &[]),
    ("GET", "/OAB/log.aspx", &[]),
    ("POST", "/ews/x.%2561spx", &[]),
    ("GET", "/autodiscover/x.aspx/autodiscover.json", &[]),
    ("GET", "/microsoft-server-activesync/%78.ashx%20", &[]),
    // View state under each application and in each form.
    (
        "GET",
        "/ecp/a@b.example/default.aspx?x=1&%5F%5fviewstate=AAAA",
        &[],
    ),
    ("GET", "/owa/x.aspx?__VIEWSTATE%00=AAAA", &[]),
];

/// What must reach it.
const FORWARDED: &[Row] = &[
    (
        "POST",
        "/owa/calendar/0123@example.test/fedc/plt1.ashx?x=1",
        &[],
    ),
    (
        "GET",
        "/owa/calendar/0123@example.test/Kalender%20f%C3%BCr%20alle/calendar.ics",
        &[],
    ),
    (
        "GET",
        "/autodiscover/autodiscover.json/v1.0/user%40mail.asp.example?Protocol=rest",
        &[],
    ),
    ("GET", "/owa/auth/OutlookCN.aspx", &[]),
    ("GET", "/rpc/rpcproxy.dll?0f0e0d0c@example.test:6001", &[]),
    (
        "RPC_IN_DATA",
        "/rpc/rpcproxy.dll?0f0e0d0c@example.test:6002",
        &[],
    ),
    (
        "POST",
        "/Microsoft-Server-ActiveSync?jAAJBAp2MTQwRGV2aWNlAApTbWFydFBob25l",
        &[],
    ),
    (
        "POST",
        "/Microsoft-Server-ActiveSync?gwAJBBCfQ3qB%2F%2BAAAAAALV2luZG93c01haWw%3D",
        &[],
    ),
    (
        "POST",
        "/Microsoft-Server-ActiveSync?Cmd=GetAttachment&AttachmentName=5%3a1%2f2&User=D%5Cu",
        &[],
    ),
    (
        "GET",
        "/adfs/ls/?wa=wsignin1.0&wtrealm=https%3a%2f%2fm.example%2fowa%2f&wctx=ru%3d%252fowa%252f%253fpath%253d",
        &[],
    ),
    (
        "GET",
        "/owa/?code=OAQ%2F&state=DctBDo%2BAgDABB&session_state=x",
        &[],
    ),
    (
        "GET",
        "/owa/auth/logon.aspx?url=https%253a%252f%252fm.example%252fowa%252f%253fpath%253d%252fmail",
        &[],
    ),
    (
        "GET",
        "/powershell?serializationLevel=Full;ExchClientVer=15.2.1118.7;clientApplication=ManagementShell",
        &[],
    ),
    (
        "GET",
        "/api/v2.0/Users('a@example.test')/messages?$filter=contains(subject,'a/b')",
        &[],
    ),
    (
        "GET",
        "/ecp/a@b.example/PersonalSettings/Password.aspx?showhelp=false",
        &[],
    ),
    (
        "GET",
        "/ecp/",
        &[(
            "Cookie",
            "X-BEResource=ex01.example.test~1942062522; x=a/b; X-BEResourcePool=a/b",
        )],
    ),
    (
        "POST",
        "/ews/exchange.asmx",
        &[("Content-Type", "text/xml; charset=\"shift_jis\"")],
    ),
    (
        "POST",
        "/owa/service.svc",
        &[("Content-Type", "multipart/form-data; boundary=ibm037x")],
    ),
    (
        "GET",
        "/outlookaddin/taskpane.html?_host_Info=Outlook$Win32$16.01$en-US$$$$16",
        &[],
    ),
];

/// Mailboxes in the scripts of the world, and with words in them that rules look for.
const MAILBOXES: &[&str] = &[
    "user@example.test",
    "müller@exämple.test",
    "山田太郎@例え.test",
    "علي@مثال.test",
    "первый@почта.test",
    "o'brien@example.test",
    "a+b@example.test",
    "power.shell@example.test",
    "autodiscover@example.test",
    "admin@owa.example.test",
    "ews@oab.asp.test",
];

/// Where mailboxes stand in URLs.
const PLACES: &[(&str, &str)] = &[
    (
        "GET",
        "/autodiscover/autodiscover.json?Email={}&Protocol=ActiveSync&RedirectCount=1",
    ),
    (
        "GET",
        "/Autodiscover/Autodiscover.json/v1.0/{}?Protocol=Autodiscoverv1",
    ),
    (
        "GET",
        "/autodiscover/autodiscover.json/v1.0/{}/?Protocol=rest",
    ),
    ("POST", "/autodiscover/autodiscover.xml?Email={}"),
    (
        "POST",
        "/Microsoft-Server-ActiveSync?Cmd=Sync&User=EXAMPLE%5C{}&DeviceId=a&DeviceType=b",
    ),
    (
        "OPTIONS",
        "/Microsoft-Server-ActiveSync?User={}&DeviceId=a&DeviceType=b",
    ),
    ("GET", "/owa/{}/?layout=premium"),
    (
        "GET",
        "/owa/{}/service.svc/s/GetUserPhoto?email={}&size=HR96x96",
    ),
    (
        "GET",
        "/ews/exchange.asmx/s/GetUserPhoto?email={}&size=HR648x648",
    ),
    ("POST", "/mapi/emsmdb/?MailboxId={}"),
    (
        "POST",
        "/ecp/{}/RulesEditor/InboxRules.svc/GetList?msExchEcpCanary=a",
    ),
    ("GET", "/owa/calendar/{}/Calendar/calendar.html"),
];

fn line(method: &str, target: &str, fields: &[(&str, &str)]) -> Value {
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| json!([name, value]))
        .collect();
    json!({ "method": method, "target": target, "headers": fields })
}

#[test]
fn what_was_found_stays_stopped() {
    let mut judges = Judges::new();
    for (method, target, fields) in STOPPED {
        let outcome = judges.outcome(&line(method, target, fields));
        assert_ne!(outcome, Outcome::Forwarded, "{method} {target} {fields:?}");
    }
}

#[test]
fn what_was_found_stays_forwarded() {
    let mut judges = Judges::new();
    for (method, target, fields) in FORWARDED {
        let outcome = judges.outcome(&line(method, target, fields));
        assert_eq!(outcome, Outcome::Forwarded, "{method} {target} {fields:?}");
    }
}

#[test]
fn mailboxes_of_every_script_are_served() {
    let mut judges = Judges::new();
    let encoded = |text: &str, keep: &[u8]| {
        text.bytes().fold(String::new(), |mut text, byte| {
            match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || keep.contains(&byte) {
                true => text.push(char::from(byte)),
                false => text.push_str(&format!("%{byte:02X}")),
            }
            text
        })
    };
    for mailbox in MAILBOXES {
        for keep in [&b""[..], b"@", b"@'+"] {
            let mailbox = encoded(mailbox, keep);
            for (method, place) in PLACES {
                let target = place.replace("{}", &mailbox);
                let outcome = judges.outcome(&line(method, &target, &[]));
                assert_eq!(outcome, Outcome::Forwarded, "{method} {target}");
            }
        }
    }
}
