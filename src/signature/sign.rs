//! Signs a request as the provider would: the exact inverse of verifying it.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};

use super::jwt::{self, TokenSigner};
use super::key::Check;
use super::packed::Packed;
use super::public_key::Message;
use super::scheme::{SigningKey, SignsWith};
use super::{Algorithm, Context, Fields, Location, Named, Request, Scheme, Slot, Template, Values};
use crate::event::{Header, Timestamp};

/// Stands in a body for a proof that is part of it.
pub const PROOF_MARK: &str = "@sig@";

/// Puts the operator's values into a body that names them as `@secret:NAME@`; nothing comes of a body
/// that names none.
fn with_secrets(body: &[u8], named: &Named) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(body).ok().filter(|text| text.contains("@secret:"))?;
    let fill = |text: String, (name, value): (&String, &zeroize::Zeroizing<Vec<u8>>)| {
        text.replace(&format!("@secret:{name}@"), &String::from_utf8_lossy(value))
    };
    Some(named.iter().fold(text.to_owned(), fill).into_bytes())
}

/// What signing adds to a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signed {
    /// Headers; they replace those of the same name.
    pub headers: Vec<(String, String)>,
    /// Parameters of the query, percent-encoded; they stand behind what is there.
    pub query: Vec<(String, String)>,
    /// The body, where the proof is part of it.
    pub body: Option<Vec<u8>>,
}

/// Adds parameters to a URL's query.
pub fn with_query(url: &str, added: &[(String, String)]) -> String {
    let mut url = url.to_owned();
    for (name, value) in added {
        url.push(if url.contains('?') { '&' } else { '?' });
        url.push_str(&format!("{name}={value}"));
    }
    url
}

impl Scheme {
    /// Signs a request.
    ///
    /// What stands in the request already for the headers that this writes is not looked at. A proof
    /// that is part of the body is put where the body has [`PROOF_MARK`]; where the body is the proof, it
    /// is given as the claims.
    ///
    /// # Errors
    ///
    /// The name of what the content needs and the request does not have, or of a place of the proof that
    /// cannot be written.
    pub fn sign(
        &self,
        fields: &Fields,
        key: &SigningKey,
        request: Request<'_>,
        named: &Named,
        now: Timestamp,
    ) -> Result<Signed, String> {
        let body = with_secrets(request.body, named);
        let request = Request { body: body.as_deref().unwrap_or(request.body), ..request };
        let time = self.unit.write(now);
        let replaced = self.signed_headers(fields);
        let mut headers: Vec<Header> = request.headers.to_vec();
        headers.retain(|(name, _)| !replaced.contains(&name.as_str()));
        let mut signed = Signed::default();
        let mut add = |name: String, value: String| {
            headers.push((name.clone(), value.clone().into()));
            signed.headers.push((name, value));
        };
        if let Some(Location::Header(name)) = self.timestamp.map(|slot| fields.location(slot)) {
            add(name.clone(), time.clone());
        }
        for (name, value) in self.bound_headers(fields, request, named)? {
            add(name, value);
        }
        signed.query = self.bound_query(fields, Request { headers: &headers, ..request }, named)?;
        let url = with_query(request.url, &signed.query);
        let packed = self.packed(fields, &Values::new(fields, request).with_named(named), &time);
        let head = packed.as_ref().map(Packed::head).unwrap_or_default();
        if let Some(packed) = &packed {
            let text = if self.syntax.has_head() { format!("{head}.") } else { packed.whole() };
            headers.push((packed.header.clone(), text.into()));
        }
        let request = Request { headers: &headers, url: &url, ..request };
        let values = Values::new(fields, request).with_named(named);
        let text = values.json_text().unwrap_or_default();
        let items = if self.is_each() { values.items_of(&text) } else { None };
        let values = match items.as_deref() {
            Some([first, ..]) => values.of_item(first),
            _ => values,
        };
        let id = self.signed_id(&values);
        let context = Context {
            timestamp: Some(time.as_bytes()),
            id: id.as_deref(),
            head: Some(head.as_bytes()),
            secret: Some(&key.bytes),
            ..Context::of(&values)
        };
        let proof = match self.algorithm {
            Algorithm::Jwt => self.token(fields, key, &context, now)?,
            _ => self.encoding.encode(&self.proof(key, &context)?),
        };
        let id = id.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        let proof = self.syntax.write(&proof, &time, &id, &head);
        signed.body = body.clone();
        self.place(fields, &request, proof, packed, &mut signed)?;
        Ok(signed)
    }

    /// Returns the headers that are bound to the rest of the request, or list those that are signed, where it does not
    /// have them.
    fn bound_headers(
        &self,
        fields: &Fields,
        request: Request<'_>,
        named: &Named,
    ) -> Result<Vec<(String, String)>, String> {
        let values = Values::new(fields, request).with_named(named);
        let absent = |slot: Slot| match fields.location(slot) {
            Location::Header(name) if values.get(slot).is_none() => Some(name.clone()),
            _ => None,
        };
        let mut added = Vec::new();
        for bind in self.binds.iter().filter(|bind| bind.applies(&values)) {
            if let Some(name) = absent(bind.at) {
                let value = bind.equals.fill(&Context::of(&values))?;
                added.push((name, String::from_utf8_lossy(&value).into_owned()));
            }
        }
        let lists = self.contents.iter().flat_map(Template::lists);
        added.extend(lists.filter_map(absent).map(|name| (name, self.must_sign.join(","))));
        Ok(added)
    }

    /// Returns the parameters of the query that are bound to the rest of the request.
    fn bound_query(
        &self,
        fields: &Fields,
        request: Request<'_>,
        named: &Named,
    ) -> Result<Vec<(String, String)>, String> {
        let values = Values::new(fields, request).with_named(named);
        let mut added = Vec::new();
        for bind in self.binds.iter().filter(|bind| bind.applies(&values)) {
            if let Location::Query(name) = fields.location(bind.at)
                && values.get(bind.at).is_none()
            {
                let value = bind.equals.fill(&Context::of(&values))?;
                let value = percent_encoding::percent_encode(&value, NON_ALPHANUMERIC).to_string();
                added.push((name.clone(), value));
            }
        }
        Ok(added)
    }

    fn proof(&self, key: &SigningKey, context: &Context<'_>) -> Result<Vec<u8>, String> {
        let unfit = || "a key of the scheme's kind".to_owned();
        match (&key.with, self.algorithm) {
            (SignsWith::Shared(key), algorithm) => {
                let mut check = Check::new(algorithm, key).ok_or_else(unfit)?;
                self.contents[0].write(context, &mut |bytes| check.update(bytes))?;
                check.finish().ok_or_else(unfit)
            }
            (SignsWith::Private(key), Algorithm::Public(scheme)) => {
                let mut message = Message::new(scheme);
                self.contents[0].write(context, &mut |bytes| message.update(bytes))?;
                key.sign(scheme, message).ok_or_else(unfit)
            }
            _ => Err(unfit()),
        }
    }

    fn token(
        &self,
        fields: &Fields,
        key: &SigningKey,
        context: &Context<'_>,
        now: Timestamp,
    ) -> Result<String, String> {
        let mut claims = Map::new();
        if *fields.location(self.sigs[0]) == Location::Body {
            let body = serde_json::from_slice(context.values.request().body);
            claims = body.map_err(|_| "a body of claims".to_owned())?;
        }
        for bind in self.binds.iter().filter(|bind| bind.applies(context.values)) {
            if let Location::Claim(pointer) = fields.location(bind.at)
                && let [name] = pointer.tokens()
            {
                let value = String::from_utf8_lossy(&bind.equals.fill(context)?).into_owned();
                claims.insert(name.clone(), Value::String(value));
            }
        }
        let signer = match &key.with {
            SignsWith::Shared(_) => TokenSigner::Shared(&key.bytes),
            SignsWith::Private(key) => TokenSigner::Private(key),
        };
        jwt::sign(&self.algs, &signer, claims, now).ok_or_else(|| "a key of the scheme's kind".to_owned())
    }

    /// Puts the proof where it belongs.
    fn place(
        &self,
        fields: &Fields,
        request: &Request<'_>,
        proof: String,
        packed: Option<Packed>,
        signed: &mut Signed,
    ) -> Result<(), String> {
        let location = fields.location(self.sigs[0]);
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        match location {
            Location::Header(name) => signed.headers.push((name.clone(), proof)),
            Location::Query(name) => signed.query.push((name.clone(), encoded(&proof))),
            Location::Body => signed.body = Some(proof.into_bytes()),
            Location::Form(_) | Location::Json(_) | Location::Item(_) => {
                let body = String::from_utf8_lossy(request.body);
                if !body.contains(PROOF_MARK) {
                    return Err(format!("{PROOF_MARK} in {location}"));
                }
                let proof = if request.is_urlencoded() { encoded(&proof) } else { proof };
                signed.body = Some(body.replace(PROOF_MARK, &proof).into_bytes());
            }
            Location::Packed(_, pointer) => {
                let mut packed = packed.ok_or_else(|| location.to_string())?;
                packed.put(pointer, Value::String(proof));
                signed.headers.push((packed.header.clone(), packed.whole()));
            }
            Location::Claim(_) => return Err(location.to_string()),
        }
        Ok(())
    }
}
