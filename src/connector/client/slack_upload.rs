//! Slack's upload, which is three requests: a URL is asked for, the file is sent there, and the upload is
//! completed, which shares the file.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::ClientError;
use super::request::{REQUEST_BYTES_MAX, raw};
use super::rest::{Call, RestClient, invalid};
use crate::catalog::ClientMethod;

impl RestClient {
    pub(super) async fn slack_upload(
        &self,
        call: &Call<'_>,
        method: &ClientMethod,
        args: &Map<String, Value>,
    ) -> Result<Value, ClientError> {
        let content = content(args).map_err(|problem| invalid(method, problem))?;
        let mut asked = only(args, &["filename", "alt_txt", "snippet_type"]);
        asked.insert("length".to_owned(), content.len().into());
        let place = self.slack(call, method, "/files.getUploadURLExternal", asked).await?;
        let (Some(url), Some(file)) = (place["upload_url"].as_str(), place["file_id"].as_str()) else {
            return Err(ClientError::Malformed("expected upload_url and file_id".to_owned()));
        };
        self.put_there(call, url, &content).await?;
        let title = args.get("title").or_else(|| args.get("filename"));
        let mut complete = only(args, &["initial_comment", "thread_ts"]);
        complete.insert("files".to_owned(), json!([{"id": file, "title": title}]));
        if let Some(channel) = args.get("channel") {
            complete.insert("channel_id".to_owned(), channel.clone());
        }
        let mut done = self.slack(call, method, "/files.completeUploadExternal", complete).await?;
        let uploaded = done.pointer_mut("/files/0").map(Value::take);
        uploaded.ok_or_else(|| ClientError::Malformed("expected the file at \"/files/0\"".to_owned()))
    }

    async fn slack(
        &self,
        call: &Call<'_>,
        method: &ClientMethod,
        path: &str,
        fields: Map<String, Value>,
    ) -> Result<Value, ClientError> {
        let request = [("path", json!(path)), ("body", Value::Object(fields))];
        let request = request.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let draft =
            raw(self.base(), self.body_kind(), &request).map_err(|problem| invalid(method, problem))?;
        Ok(self.exchange(call, &draft).await?.1)
    }
}

fn only(args: &Map<String, Value>, names: &[&str]) -> Map<String, Value> {
    let of = |name: &&str| Some(((*name).to_owned(), args.get(*name)?.clone()));
    names.iter().filter_map(of).collect()
}

fn content(args: &Map<String, Value>) -> Result<Vec<u8>, String> {
    let text = |name: &str| args.get(name).and_then(Value::as_str);
    let content = match (text("content"), text("content_base64")) {
        (Some(text), None) => text.as_bytes().to_vec(),
        (None, Some(text)) => STANDARD.decode(text).map_err(|_| "`content_base64`: this is no base64")?,
        _ => return Err("give either `content` or `content_base64`".to_owned()),
    };
    match content.len() {
        0 => Err("the file is empty".to_owned()),
        1..=REQUEST_BYTES_MAX => Ok(content),
        _ => Err(format!("the file is larger than {REQUEST_BYTES_MAX} bytes")),
    }
}
