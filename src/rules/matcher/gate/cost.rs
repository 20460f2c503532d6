//! Guesses how often a text will be found in honest requests.

use std::sync::LazyLock;

use super::table::key;

/// Parts of honest requests that every deployment sees; a text that lies in these is found all the time.
const HONEST: &str = "/owa/service.svc?action=GetConversationItems&app=Mail&EP=1&n= /owa/auth/logon.aspx?url=https://mail. \
    &reason=0&replaceCurrent=1 /ecp/default.aspx /autodiscover/autodiscover.xml /autodiscover/autodiscover.json?Email= \
    &Protocol=Autodiscoverv1 /mapi/emsmdb/?MailboxId= /mapi/nspi/ /rpc/rpcproxy.dll? /ews/exchange.asmx /oab/ /oab.xml \
    /Microsoft-Server-ActiveSync?Cmd=Sync&User=&DeviceId=&DeviceType=iPhone /powershell?clientApplication= \
    PSVersion=5.1 .example.com .contoso.com content-type: application/json, text/html; charset=utf-8 \
    Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36 \
    ClientId= X-BackEndCookie= X-OWA-CANARY= OIDC=1; UC= cadata= cadataTTL= cadataKey= cadataIV= cadataSig= \
    PrivateComputer=true; PBack=0 logondata=acc=1&lgn= mkt=en-US session= user= http:// https:// index.html \
    .js .css .png .svg scripts styles images resources themes version build global.asax";

/// How many times a text of this length is expected in a request by chance, from measurements.
const BY_LENGTH: [f64; 11] = [
    1.0, 1.0, 0.05, 0.004, 3e-5, 8e-6, 6e-6, 2e-6, 2e-6, 2e-6, 2e-6,
];

/// The same for longer texts.
const LONGER: f64 = 1e-7;

/// What each occurrence of a text's rarest part among honest requests adds.
const PER_OCCURRENCE: f64 = 0.01;

/// How often one of these texts is expected in an honest request.
pub(super) fn of_texts<'t>(texts: impl Iterator<Item = &'t [u8]>) -> f64 {
    texts.map(of_text).sum()
}

fn of_text(text: &[u8]) -> f64 {
    let by_length = BY_LENGTH.get(text.len()).copied().unwrap_or(LONGER);
    let rarest = text.windows(text.len().clamp(1, 4)).map(occurrences).min();
    let rarest = rarest.unwrap_or(0);
    by_length + PER_OCCURRENCE * f64::from(rarest)
}

/// How often these bytes, four at most, stand among honest requests, without regard to case.
pub(super) fn occurrences(few: &[u8]) -> u8 {
    GRAMS[slot(few)]
}

fn slot(few: &[u8]) -> usize {
    (u64::from(key(few, few.len())).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as usize
}

static GRAMS: LazyLock<Box<[u8]>> = LazyLock::new(|| {
    let mut counts = vec![0u8; 1 << 16].into_boxed_slice();
    for width in 1..=4 {
        for few in HONEST.as_bytes().windows(width) {
            let count = &mut counts[slot(few)];
            *count = count.saturating_add(1);
        }
    }
    counts
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_and_long_texts_cost_less() {
        let cost = |texts: &[&str]| of_texts(texts.iter().map(|text| text.as_bytes()));
        for (better, worse) in [
            (&["jndi:ldap"][..], &["jndi"][..]),
            (&["qzwx"], &["qzw"]),
            (&["zzyyxx"], &["exchange.asmx"]),
            (&["one-word"], &["one-word", "another"]),
        ] {
            assert!(cost(better) < cost(worse), "{better:?} {worse:?}");
        }
    }
}
