//! Who calls, written into a request: headers, a parameter or a part of the path.
//!
//! What is made here holds credentials, so that nothing of it can be shown.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;
use zeroize::Zeroizing;

use super::encode::segment;
use super::{ClientError, ClientSecrets};
use crate::catalog::ClientAuth;
use crate::outbound::HeaderValue;
use crate::secrets::Secret;

/// Shortest secret that is looked for in the provider's words: a shorter one would be found anywhere.
const REDACTED_BYTES_MIN: usize = 4;

/// What shows who calls.
#[derive(Default)]
pub(super) struct Shown {
    headers: Vec<(String, Zeroizing<String>)>,
    query: Option<(String, Zeroizing<String>)>,
    prefix: Option<Zeroizing<String>>,
    /// The secrets that went in, to take them out of what the provider says.
    used: Vec<Secret>,
    /// The app's installation whose token it is, if it is one's.
    pub(super) installation: Option<(String, Secret)>,
}

/// Returns what shows who calls, for every way but that of an app.
///
/// # Errors
///
/// If a secret is not there, or cannot be written where it belongs.
pub(super) async fn show(
    auth: Option<&ClientAuth>,
    secrets: &dyn ClientSecrets,
) -> Result<Shown, ClientError> {
    let mut shown = Shown::default();
    match auth {
        None | Some(ClientAuth::GithubApp { .. }) => {}
        Some(ClientAuth::Bearer { secret }) => {
            let secret = shown.secret(secrets, secret).await?;
            shown.bearer(&secret)?;
        }
        Some(ClientAuth::Header { name, value }) => {
            let value = shown.fill(secrets, value, str::to_owned).await?;
            shown.header(name, value)?;
        }
        Some(ClientAuth::Basic { user, password }) => {
            let user = shown.fill(secrets, user, str::to_owned).await?;
            let password = shown.fill(secrets, password, str::to_owned).await?;
            let both = Zeroizing::new(format!("{}:{}", *user, *password));
            shown.header(
                "authorization",
                Zeroizing::new(format!("Basic {}", STANDARD.encode(both.as_bytes()))),
            )?;
        }
        Some(ClientAuth::Query { name, value }) => {
            let value = shown.fill(secrets, value, str::to_owned).await?;
            shown.query = Some((name.clone(), value));
        }
        Some(ClientAuth::Path { prefix }) => {
            shown.prefix = Some(shown.fill(secrets, prefix, |text| segment(text).replace("%3A", ":")).await?);
        }
    }
    Ok(shown)
}

fn unusable(what: &str) -> ClientError {
    ClientError::Credentials(what.to_owned())
}

impl Shown {
    /// Shows a token.
    ///
    /// # Errors
    ///
    /// If it holds what a header cannot carry.
    pub(super) fn token(token: &Secret) -> Result<Self, ClientError> {
        let mut shown = Self { used: vec![token.clone()], ..Self::default() };
        shown.bearer(token)?;
        Ok(shown)
    }

    fn bearer(&mut self, token: &Secret) -> Result<(), ClientError> {
        let text = text_of(token)?;
        self.header("authorization", Zeroizing::new(format!("Bearer {}", *text)))
    }

    fn header(&mut self, name: &str, value: Zeroizing<String>) -> Result<(), ClientError> {
        if HeaderValue::from_str(&value).is_err() {
            return Err(unusable("a secret holds what a header cannot carry, such as a line break"));
        }
        self.headers.push((name.to_owned(), value));
        Ok(())
    }

    async fn secret(&mut self, secrets: &dyn ClientSecrets, name: &str) -> Result<Secret, ClientError> {
        let secret = secrets.secret(name).await.map_err(ClientError::Credentials)?;
        self.used.push(secret.clone());
        Ok(secret)
    }

    /// Puts secrets into a text, each written by `write`.
    async fn fill(
        &mut self,
        secrets: &dyn ClientSecrets,
        text: &str,
        write: fn(&str) -> String,
    ) -> Result<Zeroizing<String>, ClientError> {
        let mut parts = text.split("{secret:");
        let mut out = Zeroizing::new(parts.next().unwrap_or_default().to_owned());
        for part in parts {
            let (name, rest) = part.split_once('}').unwrap_or((part, ""));
            let secret = self.secret(secrets, name).await?;
            let written = Zeroizing::new(write(&text_of(&secret)?));
            *out = format!("{}{}{rest}", *out, *written);
        }
        Ok(out)
    }

    /// Tells whether a request's URL shows who calls.
    pub(super) fn is_in_url(&self) -> bool {
        self.query.is_some() || self.prefix.is_some()
    }

    /// Returns the headers.
    pub(super) fn headers(&self) -> impl Iterator<Item = (String, String)> {
        self.headers.iter().map(|(name, value)| (name.clone(), String::clone(value)))
    }

    /// Returns the URL with what belongs into it.
    ///
    /// # Errors
    ///
    /// If it then is another one than was meant.
    pub(super) fn url(&self, base: &Url, url: &Url) -> Result<Url, ClientError> {
        let mut url = url.clone();
        if let Some(prefix) = &self.prefix {
            let base = base.path().trim_end_matches('/');
            let rest = url.path().strip_prefix(base).unwrap_or_default();
            let full = Zeroizing::new(format!("{base}{}{rest}", **prefix));
            url.set_path(&full);
            if url.path() != *full {
                return Err(unusable("a secret holds what a path cannot carry"));
            }
        }
        if let Some((name, value)) = &self.query {
            url.query_pairs_mut().append_pair(name, value);
        }
        Ok(url)
    }

    /// Takes the secrets out of an error: the provider's words may repeat them.
    pub(super) fn redacted(&self, error: ClientError) -> ClientError {
        match error {
            ClientError::Refused { status, message } => {
                ClientError::Refused { status, message: self.without_secrets(message) }
            }
            ClientError::Credentials(text) => ClientError::Credentials(self.without_secrets(text)),
            ClientError::Malformed(text) => ClientError::Malformed(self.without_secrets(text)),
            other => other,
        }
    }

    fn without_secrets(&self, text: String) -> String {
        let texts = self.used.iter().filter_map(|secret| std::str::from_utf8(secret.expose()).ok());
        let long = texts.filter(|secret| secret.len() >= REDACTED_BYTES_MIN);
        long.fold(text, |text, secret| text.replace(secret, "[redacted]"))
    }
}

fn text_of(secret: &Secret) -> Result<Zeroizing<String>, ClientError> {
    let text = std::str::from_utf8(secret.expose());
    text.map(|text| Zeroizing::new(text.to_owned())).map_err(|_| unusable("a secret is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;

    struct One(&'static str);

    #[async_trait]
    impl ClientSecrets for One {
        async fn secret(&self, name: &str) -> Result<Secret, String> {
            assert_eq!(name, "token");
            Ok(Secret::new(self.0))
        }
    }

    fn base() -> Url {
        "https://api.acme.example/v1".parse().unwrap()
    }

    async fn shown(auth: &str, secret: &'static str) -> Result<String, String> {
        let auth: ClientAuth = toml::from_str(auth).unwrap();
        let shown = show(Some(&auth), &One(secret)).await.map_err(|error| error.to_string())?;
        let url: Url = "https://api.acme.example/v1/a?b=c".parse().unwrap();
        let url = shown.url(&base(), &url).map_err(|error| error.to_string())?;
        let headers: String = shown.headers().map(|(name, value)| format!(" {name}: {value}")).collect();
        Ok(format!("{}?{}{headers}", url.path(), url.query().unwrap()))
    }

    #[tokio::test]
    async fn each_way_writes_the_secret_where_it_belongs() {
        let check =
            async |auth: &str, expected: &str| assert_eq!(shown(auth, "s:1").await.unwrap(), expected);
        check("kind = \"bearer\"\nsecret = \"token\"", "/v1/a?b=c authorization: Bearer s:1").await;
        check(
            "kind = \"header\"\nname = \"X-Key\"\nvalue = \"Token {secret:token}!\"",
            "/v1/a?b=c X-Key: Token s:1!",
        )
        .await;
        let basic = "kind = \"basic\"\nuser = \"me\"\npassword = \"{secret:token}\"";
        check(basic, "/v1/a?b=c authorization: Basic bWU6czox").await;
        check("kind = \"query\"\nname = \"key\"\nvalue = \"{secret:token}\"", "/v1/a?b=c&key=s%3A1").await;
        check("kind = \"path\"\nprefix = \"/bot{secret:token}\"", "/v1/bots:1/a?b=c").await;
    }

    #[tokio::test]
    async fn a_secret_that_cannot_be_written_is_no_request() {
        let header = shown("kind = \"bearer\"\nsecret = \"token\"", "a\r\nb: hunter2").await.unwrap_err();
        assert!(header.contains("cannot carry") && !header.contains("hunter2"), "{header}");
        for odd in ["../../x", "a/b", "a?b#c"] {
            let path = shown("kind = \"path\"\nprefix = \"/bot{secret:token}\"", odd).await.unwrap();
            assert!(path.starts_with("/v1/bot") && path.split('/').count() == 4, "{path}");
        }
    }

    #[tokio::test]
    async fn what_the_provider_says_is_told_without_the_secret() {
        let auth = ClientAuth::Bearer { secret: "token".to_owned() };
        let shown = show(Some(&auth), &One("hunter22")).await.unwrap();
        let said = ClientError::Refused { status: 400, message: "bad token hunter22!".to_owned() };
        let told = shown.redacted(said).to_string();
        assert_eq!(told, "the provider refused with status 400: bad token [redacted]!");
    }
}
