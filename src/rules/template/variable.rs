//! The server variables that a proxy can know, by name.

/// A server variable. What each reads is said in `guide::dialect`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Variable {
    AllHttp,
    AllRaw,
    CacheUrl,
    /// Set by a rule or given with the request; the name in upper case.
    Custom(String),
    GatewayInterface,
    HttpUrl,
    Https,
    LocalAddress,
    Method,
    /// `HTTP_X_ORIGINAL_URL`: the client's field, until a rewrite makes it the original URL.
    OriginalUrl,
    /// A path below the document root.
    PhysicalPath,
    /// The document root itself.
    PhysicalRoot,
    Protocol,
    QueryString,
    RemoteAddress,
    RemotePort,
    /// A request field; the name in lower case with `-`.
    RequestField(String),
    RequestUri,
    /// A response field; the name in lower case with `-`.
    ResponseField(String),
    ResponseStatus,
    ServerName,
    ServerPort,
    ServerPortSecure,
    UnencodedUrl,
    Url,
}

/// What a name stands for.
pub(super) enum Found {
    Known(Variable),
    /// IIS has it, and a proxy has no way to know it.
    Unknowable,
    Unknown,
}

const NAMES: &[(&str, Variable)] = &[
    ("ALL_HTTP", Variable::AllHttp),
    ("ALL_RAW", Variable::AllRaw),
    ("APPL_PHYSICAL_PATH", Variable::PhysicalRoot),
    ("CACHE_URL", Variable::CacheUrl),
    ("DOCUMENT_ROOT", Variable::PhysicalRoot),
    ("GATEWAY_INTERFACE", Variable::GatewayInterface),
    ("HTTPS", Variable::Https),
    ("HTTP_METHOD", Variable::Method),
    ("HTTP_URL", Variable::HttpUrl),
    ("HTTP_VERSION", Variable::Protocol),
    ("HTTP_X_ORIGINAL_URL", Variable::OriginalUrl),
    ("LOCAL_ADDR", Variable::LocalAddress),
    ("PATH_INFO", Variable::Url),
    ("PATH_TRANSLATED", Variable::PhysicalPath),
    ("QUERY_STRING", Variable::QueryString),
    ("REMOTE_ADDR", Variable::RemoteAddress),
    ("REMOTE_HOST", Variable::RemoteAddress),
    ("REMOTE_PORT", Variable::RemotePort),
    ("REQUEST_FILENAME", Variable::PhysicalPath),
    ("REQUEST_METHOD", Variable::Method),
    ("REQUEST_URI", Variable::RequestUri),
    ("RESPONSE_STATUS", Variable::ResponseStatus),
    ("SCRIPT_FILENAME", Variable::PhysicalPath),
    ("SCRIPT_NAME", Variable::Url),
    ("SERVER_NAME", Variable::ServerName),
    ("SERVER_PORT", Variable::ServerPort),
    ("SERVER_PORT_SECURE", Variable::ServerPortSecure),
    ("SERVER_PROTOCOL", Variable::Protocol),
    ("UNENCODED_URL", Variable::UnencodedUrl),
    ("URL", Variable::Url),
];

/// Variables that read as empty when URL Rewrite runs: nobody is authenticated yet, and nothing warms up.
const EMPTY: &[&str] = &[
    "APP_WARMING_UP",
    "AUTH_PASSWORD",
    "AUTH_TYPE",
    "AUTH_USER",
    "LOGON_USER",
    "REMOTE_USER",
    "UNMAPPED_REMOTE_USER",
];

/// Variables of IIS that say what only the server behind us knows.
const UNKNOWABLE: &[&str] = &[
    "APPL_MD_PATH",
    "APP_POOL_ID",
    "INSTANCE_ID",
    "INSTANCE_META_PATH",
    "INSTANCE_NAME",
    "SERVER_SOFTWARE",
    "URL_PATH_INFO",
];

/// Beginnings of names of such variables: certificates and ciphers.
const UNKNOWABLE_PREFIXES: &[&str] = &["CERT_", "CRYPT_", "HTTPS_"];

impl Variable {
    /// The variable of this name, in any letter case.
    pub(super) fn named(name: &str) -> Found {
        let name = name.to_ascii_uppercase();
        if let Ok(at) = NAMES.binary_search_by_key(&name.as_str(), |(known, _)| known) {
            return Found::Known(NAMES[at].1.clone());
        }
        match name.as_str() {
            "CONTENT_LENGTH" => return Found::Known(Self::RequestField("content-length".into())),
            "CONTENT_TYPE" => return Found::Known(Self::RequestField("content-type".into())),
            _ => {}
        }
        if let Some(field) = field_name(&name, "HTTP_") {
            return Found::Known(Self::RequestField(field));
        }
        if let Some(field) = field_name(&name, "RESPONSE_") {
            return Found::Known(Self::ResponseField(field));
        }
        if EMPTY.contains(&name.as_str()) {
            return Found::Known(Self::Custom(name));
        }
        let unknowable = UNKNOWABLE.contains(&name.as_str())
            || UNKNOWABLE_PREFIXES
                .iter()
                .any(|prefix| name.starts_with(prefix));
        if unknowable {
            Found::Unknowable
        } else {
            Found::Unknown
        }
    }

    /// The variable of this name; one that only rules know when IIS has none of that name.
    pub(crate) fn custom_or_named(name: &str) -> Self {
        match Self::named(name) {
            Found::Known(variable) => variable,
            Found::Unknowable | Found::Unknown => Self::Custom(name.to_ascii_uppercase()),
        }
    }

    /// The names that a misspelt one may have meant.
    pub(super) fn names<'n>() -> impl Iterator<Item = &'n str> {
        NAMES
            .iter()
            .map(|(name, _)| *name as &'n str)
            .chain(["CONTENT_LENGTH", "CONTENT_TYPE", "HTTP_HOST", "HTTP_COOKIE"])
            .chain(["HTTP_USER_AGENT", "HTTP_REFERER", "HTTP_ACCEPT"])
    }

    /// Whether it is a part of the request target, and so has a value for each view of it.
    pub(crate) const fn is_target(&self) -> bool {
        matches!(
            self,
            Self::CacheUrl
                | Self::HttpUrl
                | Self::PhysicalPath
                | Self::QueryString
                | Self::RequestUri
                | Self::UnencodedUrl
                | Self::Url
        )
    }

    /// Whether the request target and nothing else decides its value.
    pub(crate) const fn is_of_target(&self) -> bool {
        self.is_target() && !matches!(self, Self::CacheUrl)
    }

    pub(super) const fn is_physical(&self) -> bool {
        matches!(self, Self::PhysicalPath | Self::PhysicalRoot)
    }

    pub(crate) const fn is_response(&self) -> bool {
        matches!(self, Self::ResponseField(_) | Self::ResponseStatus)
    }
}

/// The field that a variable with this prefix names: `HTTP_X_Y` is `x-y`. `None` for other names, and when no field
/// can have that name (RFC 9110 section 5.1).
pub(crate) fn field_name(variable: &str, prefix: &str) -> Option<String> {
    let (head, name) = variable.split_at_checked(prefix.len())?;
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !head.eq_ignore_ascii_case(prefix) || name.is_empty() || !name.bytes().all(is_token) {
        return None;
    }
    Some(name.to_ascii_lowercase().replace('_', "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_for_the_search() {
        assert!(NAMES.is_sorted_by_key(|(name, _)| *name));
    }

    #[test]
    fn names_are_found_in_any_case() {
        let known = |name: &str| match Variable::named(name) {
            Found::Known(variable) => Some(variable),
            Found::Unknowable | Found::Unknown => None,
        };
        assert_eq!(known("request_uri"), Some(Variable::RequestUri));
        assert_eq!(
            known("HTTP_X_Y"),
            Some(Variable::RequestField("x-y".into()))
        );
        assert_eq!(
            known("RESPONSE_X_Custom"),
            Some(Variable::ResponseField("x-custom".into()))
        );
        assert_eq!(
            known("Auth_User"),
            Some(Variable::Custom("AUTH_USER".into()))
        );
        assert_eq!(known("HTTP_"), None);
        assert_eq!(known("HTTP_A B"), None);
        assert!(matches!(Variable::named("CERT_SUBJECT"), Found::Unknowable));
        assert!(matches!(Variable::named("USER_AGENT"), Found::Unknown));
    }
}
