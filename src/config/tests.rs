//! Tests of the whole reader: text in, problems or a configuration out.

use super::*;

/// A small catalogue, and surroundings in which only some things are there.
struct Surroundings;

impl Knowledge for Surroundings {
    fn provider_ids(&self) -> Vec<String> {
        ["github", "stripe", "notion", "hmac", "square", "cron"].map(str::to_owned).to_vec()
    }

    fn provider(&self, id: &str) -> Option<ProviderFacts> {
        let secret = SecretFact { name: "signing_secret".into(), required: true, learned: id == "notion" };
        let mut facts = ProviderFacts { id: id.into(), secrets: vec![secret], ..ProviderFacts::default() };
        match id {
            "github" | "notion" => {}
            "stripe" => {
                facts.timestamped = true;
                facts.retries_for = Some(Duration::from_secs(5 * 86_400));
            }
            "hmac" => {
                let header = SettingFact { name: "header".into(), required: true, values: vec![] };
                let values = vec!["hex".into(), "base64".into()];
                let encoding = SettingFact { name: "encoding".into(), required: false, values };
                facts.settings = vec![header, encoding];
            }
            "acme" => {
                let kinds = vec!["webhook".into(), "poll".into()];
                facts = ProviderFacts { id: id.into(), kinds, is_coded: true, ..ProviderFacts::default() };
            }
            "shop" => {
                (facts.kinds, facts.is_coded) = (vec!["webhook".into(), "poll".into()], true);
                facts.secrets.push(SecretFact { name: "api_key".into(), required: true, learned: false });
            }
            "waiting" => facts.is_placeholder = true,
            "square" => facts.needs_public_url = true,
            "gitlab" => facts.proof = Proof::SenderOnly,
            "adyen" => facts.proof = Proof::Fields,
            "wufoo" => facts.is_unconfirmed = true,
            "none" => {
                facts.proof = Proof::None;
                facts.secrets.clear();
                facts.cannot_sign_as = Some("it signs nothing");
            }
            "cron" => {
                facts = ProviderFacts { id: id.into(), kinds: vec![id.into()], ..ProviderFacts::default() }
            }
            _ => return None,
        }
        Some(facts)
    }

    fn read_provider(&self, entry: &str) -> Result<ProviderFacts, String> {
        let table: toml::Table = toml::from_str(entry).map_err(|error| error.message().to_owned())?;
        let id = table.get("id").and_then(toml::Value::as_str).ok_or("`id` is missing")?;
        let is_placeholder = table.get("connector").is_some_and(|it| it.as_str() == Some("code"));
        Ok(ProviderFacts { id: id.into(), is_placeholder, ..ProviderFacts::default() })
    }

    fn with_settings(
        &self,
        facts: ProviderFacts,
        settings: &std::collections::BTreeMap<String, String>,
    ) -> Result<ProviderFacts, String> {
        match settings.get("header").map(String::as_str) {
            Some("X Sig") => Err("no header has this name".into()),
            Some("X-Url-Sig") => Ok(ProviderFacts { needs_public_url: true, ..facts }),
            _ => Ok(facts),
        }
    }

    fn compile_cel(&self, expression: &str) -> Result<(), String> {
        if expression.contains("==") || expression.contains('.') { Ok(()) } else { Err("syntax".into()) }
    }

    fn env_is_set(&self, name: &str) -> bool {
        name == "GITHUB_SECRET"
    }

    fn try_file(&self, path: &std::path::Path) -> Result<(), String> {
        if path.ends_with("there") { Ok(()) } else { Err("no such file".into()) }
    }

    fn is_blank(&self, secret: &SecretRef) -> bool {
        matches!(secret, SecretRef::Literal(text) if text.trim().is_empty())
    }

    fn try_secret(
        &self,
        _: &ProviderFacts,
        _: &std::collections::BTreeMap<String, String>,
        _: &str,
        secret: &SecretRef,
    ) -> Result<(), String> {
        match secret {
            SecretRef::Literal(text) if text == "malformed" => Err("expected: another form".into()),
            _ => Ok(()),
        }
    }

    fn program_exists(&self, program: &str) -> bool {
        program == "cat"
    }
}

fn source(text: &str) -> Source {
    Source { name: "hookkeeper.toml".into(), text: text.into(), base: PathBuf::from("/etc/hk") }
}

fn read(text: &str) -> Result<(Config, Vec<Warning>), Vec<Problem>> {
    load(&source(text), &Surroundings, Scope::Full)
}

/// Reads a text that is fine.
#[track_caller]
fn good(text: &str) -> (Config, Vec<String>) {
    let (config, warnings) = read(text).unwrap_or_else(|problems| panic!("{problems:#?}"));
    (config, warnings.iter().map(ToString::to_string).collect())
}

/// Checks the place, key and first words of every problem of a text.
#[track_caller]
fn bad(text: &str, expected: &[(usize, &str, &str)]) -> Vec<Problem> {
    let problems = read(text).expect_err("the text has problems");
    let found: Vec<_> = problems.iter().map(|p| (p.line, p.key.as_str(), p.message.as_str())).collect();
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!((found.0, found.1), (expected.0, expected.1), "{found:?}");
        assert!(found.2.starts_with(expected.2), "{found:?} {expected:?}");
    }
    problems
}

const TRIGGER: &str = "[[triggers]]\nid = \"github\"\nprovider = \"github\"\nsecrets = { signing_secret = \"env:GITHUB_SECRET\" }\n";

#[test]
fn an_empty_file_gives_the_defaults() {
    let (config, warnings) = good("");
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.server.admin.to_string(), "127.0.0.1:8081");
    assert_eq!(config.log.path, PathBuf::from("/etc/hk/data"));
    assert!(config.triggers.is_empty() && config.functions.is_empty() && warnings.is_empty());
}

#[test]
fn the_starter_is_the_default() {
    let (starter, warnings) = good(STARTER);
    let (empty, _) = good("");
    let head = |config: &Config| {
        let mut config = config.clone();
        config.triggers.clear();
        config.functions.clear();
        config.to_string()
    };
    assert_eq!(head(&starter), head(&empty));
    assert_eq!(warnings, Vec::<String>::new());
}

#[test]
fn the_starter_shows_every_key_with_its_default() {
    // Every commented key once, one at a time: none may be unknown.
    let lines: Vec<_> = STARTER.lines().collect();
    for (i, line) in lines.iter().enumerate() {
        let Some(bare) = line.strip_prefix("# ").filter(|line| {
            line.split_once(" = ")
                .is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        }) else {
            continue;
        };
        let key = bare.split(' ').next().unwrap();
        let mut text: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        // Drop the active line of the same key within the same table.
        for other in text.iter_mut().filter(|other| other.starts_with(&format!("{key} = "))) {
            if key != "id" {
                other.clear();
            }
        }
        text[i] = bare.to_owned();
        if let Err(problems) = read(&text.join("\n")) {
            let unknown: Vec<_> = problems
                .iter()
                .filter(|p| p.message.starts_with("unknown") && !p.message.starts_with("unknown trigger"))
                .collect();
            assert!(unknown.is_empty() || key == "id", "{bare}: {unknown:#?}");
        }
    }
    let (config, _) = good(STARTER);
    let shown = config.to_string();
    for default in [
        "kind = \"webhook\"",
        "path = \"/hooks/github\"",
        "dedupe_window = \"72h\"",
        "dedupe = \"delivery\"",
        "timeout = \"30s\"",
        "retry = { attempts = 8, backoff = \"standard\" }",
        "concurrency = { limit = 16 }",
        "format = \"binary\"",
    ] {
        assert!(STARTER.contains(&format!("# {default}")), "the starter shows {default}");
        let shown = shown.replace("\"3d\"", "\"72h\"");
        assert!(shown.contains(default), "{default} is in effect:\n{shown}");
    }
}

#[test]
fn the_quick_start_is_a_configuration() {
    let program = std::path::Path::new("/opt/my \"tools\"/hookkeeper");
    let (config, _) = load(&quick_start(program), &Surroundings, Scope::Text).unwrap();
    assert_eq!(config.triggers[0].path, "/hooks/github");
    let Handler::Exec { command, .. } = &config.functions[0].handler else { panic!("exec") };
    assert_eq!(command, &["/opt/my \"tools\"/hookkeeper", "print-event"]);
}

#[test]
fn what_is_printed_is_read_back() {
    let text = format!(
        "[server]\npublic_url = \"https://a.example/\"\nadmin = \"0.0.0.0:81\"\nadmin_token = \"env:GITHUB_SECRET\"\n\
         tls = {{ cert = \"there\", key = \"there\" }}\n{TRIGGER}tolerance = \"90s\"\nrate_limit = {{ per_second = 0.5 }}\n\
         [[functions]]\nid = \"f\"\nevents = [\"a.*\"]\nwhen = 'event.x == \"\\\"'\nhandler = {{ http = \"http://h/\" }}\n\
         signing_secret = [\"env:GITHUB_SECRET\", \"store:old\"]\nsign_as = \"provider\"\n\
         [[triggers]]\nid = \"nightly\"\nprovider = \"cron\"\nschedule = \" @hourly \"\ntimezone = \"europe/zurich\"\n\
         catchup = \"latest\"\n[[providers]]\nid = \"own\"\n[providers.inner]\nx = 1\n"
    );
    let (config, _) = good(&text);
    let printed = config.to_string();
    let (again, _) = good(&printed);
    assert_eq!(printed, again.to_string());
    assert_eq!(format!("{config:?}"), format!("{again:?}"));
}

#[test]
fn every_problem_is_found_in_one_run() {
    let problems = bad(
        r#"
[server]
listen = "localhost"
body_limit = "25"
workers = 0
colour = "red"
[log]
retention = "30d"
[[triggers]]
id = "github"
provider = "gihub"
secrets = { signing_secret = "env:NOT_SET" }
tolerence = "5m"
[[triggers]]
id = "github"
provider = "github"
path = "hooks"
kind = "cron"
[[functions]]
id = "deploy eu"
on = ["githb"]
when = "nonsense"
handler = { pull = true }
retry = { attempts = 0, backoff = "slow" }
debounce = "1m"
"#,
        &[
            (3, "server.listen", "this is not an address"),
            (4, "server.body_limit", "this is not a size"),
            (5, "server.workers", "number out of range"),
            (6, "server.colour", "unknown key"),
            (8, "log.retention", "retention is not supported"),
            (11, "triggers.github.provider", "unknown provider"),
            (12, "triggers.github.secrets.signing_secret", "the environment variable NOT_SET is not set"),
            (13, "triggers.github.tolerence", "unknown key"),
            (14, "triggers[1].secrets", "the secret `signing_secret` is missing"),
            (15, "triggers[1].id", "id `github` is used twice"),
            (17, "triggers[1].path", "the path does not begin with /"),
            (18, "triggers[1].kind", "provider `github` has no cron triggers"),
            (20, "functions[0].id", "this does not serve as an id"),
            (21, "functions[0].on[0]", "unknown trigger"),
            (22, "functions[0].when", "this is no CEL expression"),
            (23, "functions[0].handler.pull", "handlers of the kind `pull` are not supported"),
            (24, "functions[0].retry.attempts", "number out of range"),
            (24, "functions[0].retry.backoff", "unknown backoff"),
            (25, "functions[0].debounce", "`debounce` is not supported"),
        ],
    );
    let nearest = |key: &str| problems.iter().find(|p| p.key == key).unwrap().nearest.clone();
    assert_eq!(nearest("triggers.github.provider").as_deref(), Some("github"));
    assert_eq!(nearest("triggers.github.tolerence").as_deref(), Some("tolerance"));
    assert_eq!(nearest("functions[0].on[0]").as_deref(), Some("github"));
    for problem in &problems {
        assert!(problem.remedy.is_some() || problem.nearest.is_some(), "a way out: {problem}");
    }
}

#[test]
fn syntax_errors_have_a_line_and_hide_no_other_problem() {
    let problems = bad(
        "[server]\nlisten = 127.0.0.1:8080\nadmin = \"nowhere\"\n[[triggers]\nid = 1\n",
        &[
            (2, "", "this is not TOML"),
            (3, "server.admin", "this is not an address"),
            (4, "", "this is not TOML"),
        ],
    );
    assert_eq!(problems[0].snippet.as_ref().unwrap().0, "listen = 127.0.0.1:8080");
}

#[test]
fn no_secret_is_ever_repeated() {
    let texts = [
        "[server]\nadmin_token = \"hunter2\"",
        "[server]\nadmin_token = \"hunter2",
        "[server]\nadmin_token = hunter2",
        "[server]\nadmin_token = [\"hunter2\"]",
        "[server]\nadmintoken = \"hunter2\"",
        "[server]\ntoken = \"hunter2\"",
        "[[triggers]]\nid = \"a\"\nprovider = \"github\"\nsecrets = \"hunter2\"",
        "[[triggers]]\nid = \"a\"\nprovider = \"github\"\nsecrets = { signing_secret = \"hunter2\" }",
        "[[triggers]]\nid = \"a\"\nprovider = \"github\"\nsecrets = { signing_secret = hunter2 }",
        "[[triggers]]\nid = \"a\"\nprovider = \"github\"\nsecrets = { signing_secret = [\"hunter2\", 7] }",
        "[[triggers]]\nid = \"a\"\nprovider = \"github\"\nsecrets = { signing_secret = [\n\"hunter2\n] }",
        "[[triggers]]\nid = \"a\"\nprovider = \"github\"\nsecrets = { signing_secret = [\n\"hunter2==\n] }",
        "[[triggers]]\nid = \"a\"\nprovider = \"github\"\nsecrets = { wrong = \"literal:hunter2\" }",
        "[[triggers]]\nid = \"a\"\nprovider = \"github\"\nsecret = { signing_secret = \"hunter2\" }",
        "[[triggers]]\nid = \"a\"\nprovider = \"github\"\n[triggers.secrets]\nsigning_secret = \"hunter2\"",
        "[[triggers]]\nid = \"a\"\nprovider = \"github\"\nsecrets.signing_secret = \"hunter2\"",
        "[[functions]]\nid = \"a\"\nhandler = { http = \"http://me:hunter2@host/\" }",
        "[[functions]]\nid = \"a\"\nhandler = { exec = [\"cat\"] }\nsigning_secret = \"hunter2\"",
        "[[functions]]\nid = \"a\"\nhandler = { exec = [\"cat\"], env = [\"TOKEN=hunter2\"] }",
        "[[triggers]]\nid = \"a\"\nprovider = \"github\"\nsettings = { token = \"hunter2\" }",
        "[[triggers]]\nid = \"a\"\nprovider = \"github\"\nsettings = { token = [\"hunter2\"] }",
        "[[triggers]]\nid = \"a\"\nprovider = \"cron\"\nkind = \"cron\"\nsecrets = { signing_secret = \"hunter2\" }",
        "[[triggers]]\nid = \"a\"\nprovider = \"cron\"\nkind = \"cron\"\nsettings.token = \"hunter2\"",
        "[[triggers]]\nid = \"a\"\nprovider = \"github\"\nsecret.signing_secret = \"hunter2\"",
        "secrets.token.b = \"hunter2\"",
        "[server]\npublic_url = \"ftp://me:hunter2@host/\"",
        "[clients.slack]\nsettings = { token = \"hunter2\" }",
        "[clients.slack]\nbase_url = \"https://me:hunter2@host/\"",
        "hunter2",
    ];
    for text in texts {
        let problems = read(text).expect_err(text);
        let shown = format!("{problems:?}{}", problems.iter().map(ToString::to_string).collect::<String>());
        assert!(!shown.contains("hunter2"), "{text}\n{shown}");
    }
}

#[test]
fn literals_work_with_a_warning_that_hides_them() {
    let (_, warnings) = good(&TRIGGER.replace("env:GITHUB_SECRET", "literal:hunter2"));
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("literal secret") && !warnings[0].contains("hunter2"));
}

#[test]
fn the_admin_listener_needs_a_token_beyond_loopback() {
    bad("[server]\nadmin = \"0.0.0.0:9000\"", &[(2, "server.admin", "the admin listener is reachable")]);
    good("[server]\nadmin = \"0.0.0.0:9000\"\nadmin_token = \"env:GITHUB_SECRET\"");
    good("[server]\nadmin = \"[::1]:9000\"");
    bad("[server]\nadmin = \"127.0.0.1:8080\"", &[(2, "server.admin", "`listen` and `admin` are the same")]);
}

#[test]
fn secrets_follow_the_providers_entry() {
    let trigger =
        |provider: &str, rest: &str| format!("[[triggers]]\nid = \"t\"\nprovider = \"{provider}\"\n{rest}");
    good(&trigger("notion", ""));
    bad(&trigger("github", ""), &[(1, "triggers.t.secrets", "the secret `signing_secret` is missing")]);
    let problems = bad(
        &trigger("github", "secrets = { signing_secert = \"env:GITHUB_SECRET\" }"),
        &[
            (1, "triggers.t.secrets", "the secret `signing_secret` is missing"),
            (4, "triggers.t.secrets.signing_secert", "the provider has no secret of this name"),
        ],
    );
    assert_eq!(problems[1].nearest.as_deref(), Some("signing_secret"));
    bad(
        &trigger("github", "secrets = { signing_secret = \"file:gone\" }"),
        &[(4, "triggers.t.secrets.signing_secret", "cannot read /etc/hk/gone")],
    );
}

#[test]
fn a_secret_file_that_is_not_there_yet_keeps_no_server_from_starting() {
    let text = |rest: &str| {
        format!(
            "{rest}[[triggers]]\nid = \"t\"\nprovider = \"github\"\nsecrets = {{ signing_secret = \"file:gone\" }}\n"
        )
    };
    let (_, warnings) = load(&source(&text("")), &Surroundings, Scope::Serve).unwrap();
    assert!(warnings[0].message.contains("cannot read /etc/hk/gone"), "{warnings:?}");
    // What is needed before there is any trigger still does.
    let token = text("[server]\nadmin_token = \"file:gone\"\n");
    assert_eq!(load(&source(&token), &Surroundings, Scope::Serve).unwrap_err()[0].key, "server.admin_token");
}

#[test]
fn a_connector_in_code_takes_what_secrets_and_settings_it_likes() {
    let text = "[[triggers]]\nid = \"t\"\nprovider = \"acme\"\nsecrets = { api_key = \"env:GITHUB_SECRET\" }\n\
                settings = { project = \"7\" }\n";
    let (config, warnings) = good(text);
    assert_eq!((config.triggers[0].secrets.len(), warnings.len()), (1, 0));
    assert_eq!(config.triggers[0].settings["project"], "7");
}

#[test]
fn a_poll_trigger_needs_no_secret_that_verifies_deliveries() {
    let shop = |more: &str| format!("[[triggers]]\nid = \"t\"\nprovider = \"shop\"\n{more}");
    let key = "secrets = { api_key = \"env:GITHUB_SECRET\" }\n";
    let poll = "kind = \"poll\"\nevery = \"1m\"\n";
    assert_eq!(good(&shop(&format!("{poll}{key}"))).0.triggers[0].secrets.len(), 1);
    bad(&shop(poll), &[(1, "triggers.t.secrets", "the secret `api_key` is missing")]);
    bad(&shop(key), &[(1, "triggers.t.secrets", "the secret `signing_secret` is missing")]);
}

#[test]
fn a_placeholder_is_used_by_no_trigger_and_no_client() {
    let text = "[[triggers]]\nid = \"t\"\nprovider = \"waiting\"\n\n[clients.waiting]\n";
    let what = "provider `waiting` is a placeholder";
    let problems = bad(text, &[(3, "triggers.t.provider", what), (5, "clients.waiting", what)]);
    for problem in problems {
        assert!(problem.remedy.as_ref().unwrap().contains("cli::main_with"), "{problem:?}");
    }
}

#[test]
fn a_placeholder_in_the_place_of_a_catalogue_entry_is_warned_of() {
    let warned = |text: &str| good(text).1;
    let warnings = warned("[[providers]]\nid = \"github\"\nconnector = \"code\"\n");
    assert!(warnings[0].contains("takes the place of the catalogue's `github`"), "{warnings:?}");
    assert_eq!(warnings.len(), 1);
    for fine in ["[[providers]]\nid = \"github\"\n", "[[providers]]\nid = \"own\"\nconnector = \"code\"\n"] {
        assert_eq!(warned(fine), Vec::<String>::new(), "{fine}");
    }
}

#[test]
fn a_provider_that_is_not_asked_is_told_once() {
    let text = format!("{TRIGGER}kind = \"poll\"\nevery = \"5m\"\n");
    bad(&text, &[(5, "triggers.github.kind", "provider `github` has no poll triggers")]);
}

#[test]
fn poll_triggers_say_how_often() {
    let poll = |rest: &str| format!("[[triggers]]\nid = \"t\"\nprovider = \"acme\"\nkind = \"poll\"\n{rest}");
    let every = |rest: &str| good(&poll(rest)).0.triggers[0].poll().unwrap().every;
    assert_eq!(every(""), Duration::from_secs(60));
    assert_eq!(every("every = \"5m\""), Duration::from_secs(300));
    bad(&poll("every = \"10ms\""), &[(5, "triggers.t.every", "duration out of range")]);
    bad(&poll("every = \"8d\""), &[(5, "triggers.t.every", "duration out of range")]);
    bad(&poll("path = \"/x\""), &[(5, "triggers.t.path", "a poll trigger has no `path`")]);
    let shown = good(&poll("every = \"5m\"\nsecrets = { api_key = \"env:GITHUB_SECRET\" }")).0.to_string();
    assert!(shown.contains("every = \"5m\"") && shown.contains("api_key"), "{shown}");
    assert_eq!(good(&shown).0.to_string(), shown);
}

#[test]
fn settings_follow_the_providers_entry() {
    let trigger =
        |rest: &str| format!("{}{rest}", TRIGGER.replace("provider = \"github\"", "provider = \"hmac\""));
    good(&trigger("settings = { header = \"x-sig\", encoding = \"hex\" }"));
    bad(&trigger(""), &[(1, "triggers.github.settings", "the setting `header` is missing")]);
    bad(
        &trigger("settings = { header = \"x\", encoding = \"hax\", other = \"\" }"),
        &[
            (5, "triggers.github.settings.encoding", "unknown value"),
            (5, "triggers.github.settings.other", "the provider has no setting"),
        ],
    );
}

#[test]
fn windows_follow_the_providers_retries() {
    let stripe = TRIGGER.replace("provider = \"github\"", "provider = \"stripe\"");
    assert_eq!(good(&stripe).0.triggers[0].dedupe_window, Duration::from_secs(5 * 86_400));
    let (_, warnings) = good(&format!("{stripe}dedupe_window = \"72h\""));
    assert!(warnings[0].contains("5d") && warnings[0].contains("3d"), "{warnings:?}");
    let (_, warnings) = good(&format!("{TRIGGER}tolerance = \"1m\""));
    assert!(warnings[0].contains("no effect"), "{warnings:?}");
}

#[test]
fn urls_that_are_signed_need_to_be_known() {
    let square = TRIGGER.replace("provider = \"github\"", "provider = \"square\"");
    bad(&square, &[(1, "triggers.github.provider", "this provider signs the URL")]);
    good(&format!("[server]\npublic_url = \"https://a.example\"\n{square}"));
}

#[test]
fn what_settings_make_of_a_scheme_is_held() {
    let hmac = |header: &str| {
        format!(
            "{}settings = {{ header = \"{header}\" }}\n",
            TRIGGER.replace("provider = \"github\"", "provider = \"hmac\"")
        )
    };
    good(&hmac("X-Sig"));
    bad(
        &hmac("X Sig"),
        &[(1, "triggers.github.settings", "the settings make no sense: no header has this name")],
    );
    bad(&hmac("X-Url-Sig"), &[(1, "triggers.github.provider", "this provider signs the URL")]);
}

#[test]
fn proofs_that_prove_little_are_warned_of() {
    let warned = |provider: &str, more: &str| {
        let text = TRIGGER.replace("provider = \"github\"", &format!("provider = \"{provider}\""));
        good(&format!("{text}{more}")).1
    };
    assert!(warned("github", "").is_empty());
    for (provider, part, remedy) in [
        ("wufoo", "`wufoo` is experimental", "hookkeeper verify wufoo"),
        ("gitlab", "the proof does not cover the body: ", "over https alone"),
        ("adyen", "the proof does not cover the body as a whole", "providers show adyen"),
    ] {
        let warnings = warned(provider, "");
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with("hookkeeper.toml:3:12: triggers.github.provider: "), "{warnings:?}");
        assert!(warnings[0].contains(part) && warnings[0].contains(remedy), "{warnings:?}");
    }
    let none = "[[triggers]]\nid = \"pings\"\nprovider = \"none\"\n";
    let (_, warnings) = good(none);
    assert!(warnings[0].contains("proves nothing") && warnings[0].contains("nobody guesses"), "{warnings:?}");
    assert!(good(&format!("{none}path = \"/hooks/pings-7c9e6679f7a34d1b9c1a\"")).1.is_empty());
}

#[test]
fn paths_are_taken_once() {
    let second = TRIGGER.replace("id = \"github\"", "id = \"other\"\npath = \"/hooks/github\"");
    bad(
        &format!("{TRIGGER}{second}"),
        &[(7, "triggers.other.path", "path /hooks/github is taken by trigger `github`")],
    );
}

#[test]
fn what_is_wrong_with_one_thing_hides_nothing_of_another() {
    // A trigger that is broken in another way has its path all the same.
    let broken = TRIGGER.replace("GITHUB_SECRET", "MISSING");
    let same_id = TRIGGER.replace("provider", "path = \"/hooks/github\"\nprovider");
    bad(
        &format!("{broken}{same_id}"),
        &[
            (4, "triggers.github.secrets.signing_secret", "the environment variable MISSING is not set"),
            (6, "triggers[1].id", "id `github` is used twice"),
            (7, "triggers[1].path", "path /hooks/github is taken by trigger `github` (line 1)"),
        ],
    );
    let limits = "rate_limit = { per_second = 0, burst = 0 }\n";
    bad(
        &format!("{TRIGGER}{limits}"),
        &[
            (5, "triggers.github.rate_limit.per_second", "number out of range"),
            (5, "triggers.github.rate_limit.burst", "number out of range"),
        ],
    );
    bad(
        "[server]\nlisten = \"127.0.0.1:99999\"\nadmin = \"0.0.0.0:8081\"\n",
        &[
            (2, "server.listen", "this is not an address"),
            (3, "server.admin", "the admin listener is reachable from other machines"),
        ],
    );
    bad("[server]\nadmin_names = [5]\n", &[(2, "server.admin_names[0]", "expected a string")]);
    bad(
        "[server]\nadmin_names = [\"admin.example.com\", \"https://admin.example.com\", \"admin.example.com:8081\"]\n",
        &[
            (2, "server.admin_names[1]", "this is no host name"),
            (2, "server.admin_names[2]", "this is no host name"),
        ],
    );
    // One mistake is told once.
    bad(
        &format!("{TRIGGER}settings = {{ header = \"X Sig\" }}\n"),
        &[(5, "triggers.github.settings.header", "the provider has no setting of this name")],
    );
}

#[test]
fn secrets_that_cannot_serve_are_reported() {
    let secrets = |list: &str| TRIGGER.replace("\"env:GITHUB_SECRET\"", list);
    let problems = bad(
        &secrets("[\"env:GITHUB_SECRET\", \"literal: \", \"literal:malformed\"]"),
        &[
            (4, "triggers.github.secrets.signing_secret[1]", "the secret of literal:[redacted] is blank"),
            (
                4,
                "triggers.github.secrets.signing_secret[2]",
                "the secret of literal:[redacted] does not serve",
            ),
        ],
    );
    assert!(problems.iter().all(|problem| !problem.to_string().contains("malformed")), "{problems:?}");
}

#[test]
fn signing_as_a_provider_that_nobody_can_sign_as_is_risky() {
    let pings =
        "[[triggers]]\nid = \"pings\"\nprovider = \"none\"\npath = \"/hooks/pings-7c9e6679f7a34d1b9c1a\"\n";
    let function = "[[functions]]\nid = \"f\"\nhandler = { http = \"http://a/\" }\nsign_as = \"provider\"\n";
    let (_, warnings) = good(&format!("{TRIGGER}{pings}{function}"));
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    for part in ["functions.f.sign_as", "nobody can sign as `none` (trigger `pings`): it signs nothing"] {
        assert!(warnings[0].contains(part), "{warnings:?}");
    }
    assert!(good(&format!("{TRIGGER}{pings}{function}on = [\"github\"]\n")).1.is_empty());
}

const NIGHTLY: &str =
    "[[triggers]]\nid = \"nightly\"\nprovider = \"cron\"\nkind = \"cron\"\nschedule = \"0 3 * * *\"\n";

#[test]
fn cron_triggers_have_a_schedule_in_a_zone() {
    let (config, warnings) = good(NIGHTLY);
    assert!(warnings.is_empty());
    let cron = config.triggers[0].cron().unwrap();
    assert_eq!((cron.schedule.to_string().as_str(), cron.catchup), ("0 3 * * * UTC", Catchup::Skip));
    // Several: none has a path that another could take.
    let other = NIGHTLY
        .replace("id = \"nightly\"", "id = \"other\"\ntimezone = \"America/New_York\"\ncatchup = \"all\"");
    let (config, _) = good(&format!("{NIGHTLY}{other}"));
    let cron = config.triggers[1].cron().unwrap();
    assert_eq!((cron.schedule.zone(), cron.catchup), ("America/New_York", Catchup::All));
    // The provider's only kind need not be said.
    assert!(good(&NIGHTLY.replace("kind = \"cron\"\n", "")).0.triggers[0].cron().is_some());
}

#[test]
fn what_is_wrong_with_a_cron_trigger_is_told_with_the_remedy() {
    let text = NIGHTLY.replace("0 3 * * *", "0 24 * * *");
    let problems = bad(
        &format!(
            "{text}timezone = \"Europe/Zurick\"\ncatchup = \"last\"\nevery = \"1m\"\npath = \"/x\"\nsecrets = {{ signing_secret = \"env:GITHUB_SECRET\" }}\n"
        ),
        &[
            (5, "triggers.nightly.schedule", "`24` is no hour"),
            (6, "triggers.nightly.timezone", "unknown time zone"),
            (7, "triggers.nightly.catchup", "unknown way to catch up"),
            (8, "triggers.nightly.every", "a cron trigger has no `every`: its schedule says when"),
            (9, "triggers.nightly.path", "a cron trigger has no `path`"),
            (10, "triggers.nightly.secrets", "a cron trigger has no `secrets`"),
        ],
    );
    assert!(problems[0].remedy.as_ref().unwrap().starts_with("0 to 23"));
    assert_eq!(problems[1].nearest.as_deref(), Some("Europe/Zurich"));
    bad(
        "[[triggers]]\nid = \"n\"\nprovider = \"cron\"\n",
        &[(1, "triggers.n.schedule", "`schedule` is missing")],
    );
    bad(
        &NIGHTLY.replace("kind = \"cron\"", "kind = \"webhook\""),
        &[(4, "triggers.nightly.kind", "provider `cron` has no webhook triggers")],
    );
    bad(
        &format!("{TRIGGER}schedule = \"0 3 * * *\"\n"),
        &[(5, "triggers.github.schedule", "a webhook trigger has no `schedule`")],
    );
    bad(
        &format!("{TRIGGER}kind = \"poll\"\n"),
        &[(5, "triggers.github.kind", "provider `github` has no poll triggers")],
    );
    bad(
        &format!("{TRIGGER}every = \"1m\"\n"),
        &[(5, "triggers.github.every", "a webhook trigger has no `every`")],
    );
    bad(&format!("{TRIGGER}kind = \"corn\"\n"), &[(5, "triggers.github.kind", "unknown kind of trigger")]);
}

#[test]
fn a_command_that_is_not_there_is_a_warning() {
    let (_, warnings) = good("[[functions]]\nid = \"f\"\nhandler = { exec = [\"./gone.sh\"] }");
    assert!(warnings[0].contains("there is no program /etc/hk/./gone.sh"), "{warnings:?}");
}

#[test]
fn own_providers_are_known_to_triggers() {
    let text = format!(
        "{}[[providers]]\nid = \"own\"\n",
        TRIGGER.replace("provider = \"github\"", "provider = \"own\"")
    );
    bad(&text, &[(4, "triggers.github.secrets.signing_secret", "the provider has no secret of this name")]);
    let text = "[[triggers]]\nid = \"t\"\nprovider = \"own\"\n[[providers]]\nid = \"own\"\n[[providers]]\nname = \"x\"\n";
    bad(text, &[(6, "providers[1]", "this is no catalogue entry: `id` is missing")]);
}

#[test]
fn wrong_types_are_told_apart() {
    bad(
        "triggers = 5\n[server]\nlisten = 8080\nworkers = \"two\"\ntls = true\n[log]\npath = []\n[[functions]]\nid = \"f\"\nhandler = \"http://x\"\non = \"github\"\n",
        &[
            (1, "triggers", "expected a list"),
            (3, "server.listen", "expected a string"),
            (4, "server.workers", "expected a whole number"),
            (5, "server.tls", "expected a table"),
            (7, "log.path", "expected a string"),
            (10, "functions.f.handler", "expected a table"),
            (11, "functions.f.on", "expected a list"),
        ],
    );
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(\\[{1,2}(server|log|triggers|functions)\\]{1,2}\n|[a-z_]{1,8} = [\"\\[{]?[a-z:0-9]{0,6}[\"\\]}]?\n|.{0,12}\n){0,8}") {
        let _ = load(&source(&text), &Surroundings, Scope::Full);
    }
}

#[test]
fn the_folder_of_secrets_starts_at_the_configurations() {
    let dir = |text: &str| good(text).0.secrets.dir;
    assert_eq!(dir(""), None);
    assert_eq!(dir("[secrets]\ndir = \"keys\""), Some(PathBuf::from("/etc/hk/keys")));
    assert_eq!(dir("[secrets]\ndir = \"/run/secrets\""), Some(PathBuf::from("/run/secrets")));
    bad(
        "[secrets]\ndir = \"\"\nfolder = \"x\"",
        &[(2, "secrets.dir", "this is no path"), (3, "secrets.folder", "unknown key")],
    );
}

#[test]
fn outbound_networks_and_hosts_are_read() {
    let (config, warnings) = good(
        "[outbound]\nallow_private = [\"10.20.0.0/16\", \"fd00::1\"]\n\
         hosts = { \"Keys.Example.com\" = \"10.20.0.5:8443\" }\nca = \"there\"",
    );
    let outbound = &config.outbound;
    let networks: Vec<_> = outbound.allow_private.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.20.0.0/16", "fd00::1/128"]);
    assert_eq!(outbound.hosts["keys.example.com"].to_string(), "10.20.0.5:8443");
    assert_eq!(outbound.ca, Some(PathBuf::from("/etc/hk/there")));
    assert_eq!(warnings, Vec::<String>::new());
    let printed = config.to_string();
    assert_eq!(good(&printed).0.to_string(), printed);

    bad(
        "[outbound]\nallow_private = [\"10.20.0.0/33\", \"internal\"]\n\
         hosts = { \"https://x\" = \"1.1.1.1:443\", y = \"1.1.1.1\" }\nca = \"gone\"\nallow = []",
        &[
            (2, "outbound.allow_private[0]", "this is no network"),
            (2, "outbound.allow_private[1]", "this is no network"),
            (3, "outbound.hosts.https://x", "this is no host name"),
            (3, "outbound.hosts.y", "this is not an address"),
            (4, "outbound.ca", "cannot read"),
            (5, "outbound.allow", "unknown key"),
        ],
    );
    let (_, warnings) = good("[outbound]\nallow_private = [\"0.0.0.0/0\"]");
    assert!(warnings[0].contains("almost any address"), "{warnings:?}");
}
