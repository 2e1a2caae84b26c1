//! `print-event`: the function of the quick start. Its output is the run's result.

use std::io::{Read as _, Write as _};

use anyhow::Context as _;
use serde_json::Value;

use super::render::{self, out};

/// Largest event that is read: the greatest body limit, in base64, with its envelope.
const EVENT_BYTES_MAX: u64 = 1_500_000_000;

/// Reads a structured event from stdin and prints one line.
pub(super) fn run() -> anyhow::Result<()> {
    let mut text = Vec::new();
    std::io::stdin().take(EVENT_BYTES_MAX).read_to_end(&mut text)?;
    let event: Value = serde_json::from_slice(&text).context("stdin holds no structured event")?;
    writeln!(out(), "{}", line(&event))?;
    Ok(())
}

fn line(event: &Value) -> String {
    let data = event.get("data").unwrap_or(&Value::Null);
    let facts = ["/repository/full_name", "/sender/login", "/ref"].map(|pointer| render::text(data, pointer));
    let facts: Vec<_> = facts.into_iter().filter(|fact| !fact.is_empty()).collect();
    let kind = render::text(event, "/type");
    render::one_line(&format!("{kind} {}", facts.join(" ")), 200).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_what_is_there() {
        let event = serde_json::json!({
            "type": "github.push",
            "data": {"ref": "refs/heads/main", "repository": {"full_name": "octocat/hello-world"}},
        });
        assert_eq!(line(&event), "github.push octocat/hello-world refs/heads/main");
        assert_eq!(line(&serde_json::json!({"type": "a.b", "data_base64": "AA=="})), "a.b");
    }
}
