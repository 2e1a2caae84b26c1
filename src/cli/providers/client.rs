//! What can be called of a provider's API, for people.

use super::page::Page;
use crate::catalog::{ClientAuth, ClientSpec, ProviderEntry};

/// Tells the client of an entry; nothing where there is none.
pub(super) fn tell(page: &mut Page, entry: &ProviderEntry) {
    let Some(client) = &entry.client else { return tell_code(page, entry) };
    page.part("Client");
    page.line("at", &client.base_url);
    page.line("facts", client.confidence.in_words());
    page.line("read", &client.source);
    page.line("on", &client.read_on);
    for secret in &client.secrets {
        page.line("secret", &format!("{}: {}", secret.name, secret.about));
    }
    for setting in &client.settings {
        let default = match setting.default.as_deref() {
            None | Some("") => String::new(),
            Some(text) => format!(", {text:?} unless set"),
        };
        page.line("setting", &format!("{}{default}: {}", setting.name, setting.about));
    }
    for auth in &client.auth {
        page.line("shows", &in_words(auth));
    }
    let by = if client.limits.per_path { ", for each path" } else { "" };
    page.line("permits", &format!("by {}{by}", scope(client)));
    let names = client.method_names();
    page.line("methods", &format!("{} (hookkeeper call {})", names.join(", "), entry.id));
    page.gap();
    page.verbatim(&example(entry, client));
}

/// Tells what a connector in code offers.
fn tell_code(page: &mut Page, entry: &ProviderEntry) {
    if !entry.outbound.is_empty() {
        page.part("Client");
        page.line("methods", &format!("{} (hookkeeper call {})", entry.outbound.join(", "), entry.id));
    }
}

fn scope(client: &ClientSpec) -> &str {
    if client.has_installations() { "token, or by the app's installation" } else { &client.limits.scope }
}

fn in_words(auth: &ClientAuth) -> String {
    match auth {
        ClientAuth::Bearer { secret } => format!("{secret} as a bearer token"),
        ClientAuth::Header { name, value } => format!("header {name}: {value}"),
        ClientAuth::Basic { user, password } => format!("user {user} with password {password}"),
        ClientAuth::Query { name, value } => format!("query parameter {name}={value}"),
        ClientAuth::Path { prefix } => format!("{prefix} in the path"),
        ClientAuth::GithubApp { secret, .. } => {
            format!("a token of the app's installation, which is got with {secret}")
        }
    }
}

/// Writes a table to copy: what the first way of authentication needs.
fn example(entry: &ProviderEntry, client: &ClientSpec) -> String {
    let id = &entry.id;
    let first = client.auth.first();
    let variable =
        |name: &str| format!("{name} = \"env:{}\"", format!("{id}_{name}").to_uppercase().replace('-', "_"));
    let secrets: Vec<String> = first.iter().flat_map(|auth| auth.secrets()).map(variable).collect();
    let by_auth: Vec<&str> = client.auth.iter().flat_map(|auth| auth.settings()).collect();
    let of_first: Vec<&str> = first.iter().flat_map(|auth| auth.settings()).collect();
    let open = client.settings.iter().filter(|setting| setting.default.is_none());
    let open = open.filter(|it| of_first.contains(&&*it.name) || !by_auth.contains(&&*it.name));
    let settings: Vec<String> = open.map(|setting| format!("{} = \"…\"", setting.name)).collect();
    let mut text = format!("[clients.{id}]\n");
    if !secrets.is_empty() {
        text.push_str(&format!("secrets = {{ {} }}\n", secrets.join(", ")));
    }
    if !settings.is_empty() {
        text.push_str(&format!("settings = {{ {} }}\n", settings.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::ProviderCatalog;

    fn check(id: &str, parts: &[&str]) {
        let mut page = Page::titled(id);
        tell(&mut page, ProviderCatalog::built_in().get(id).unwrap());
        let text = page.into_text();
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in parts {
            assert!(flat.contains(part), "{id}: {part}\n{text}");
        }
    }

    #[test]
    fn a_client_tells_what_it_needs_and_offers() {
        check(
            "github",
            &[
                "secret private_key: your App",
                "shows a token of the app's installation, which is got with private_key",
                "permits by token, or by the app's installation",
                "methods create_comment, add_labels, remove_label, request_review, create_issue",
                "[clients.github] secrets = { token = \"env:GITHUB_TOKEN\" }",
            ],
        );
        check("slack", &["permits by workspace, for each path", "(hookkeeper call slack)"]);
        check(
            "jira",
            &["secrets = { api_token = \"env:JIRA_API_TOKEN\" } settings = { site = \"…\", email = \"…\" }"],
        );
        check("telegram", &["shows /bot{secret:bot_token} in the path"]);
    }
}
