//! From a request to a response: the cache, then what is on its way, then what is announced, then the origin.

use std::sync::Arc;

use carousel::name::ObjectKey;
use carousel::time::WallTime;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};

use super::body::PlayerBody;
use super::reply::{Facts, Send, allow_everyone, options, plain};
use super::{Player, page, target};
use crate::clock;
use crate::flight::{FailReason, Flight, Outcome};
use crate::origin::{FillResult, OriginError};
use crate::receive::Document;
use crate::store::StoredObject;

/// Times that a request looks again when what it waited for was replaced by another version.
const LOOKS: usize = 4;

/// Where an object stands.
enum Found {
    Stored(Arc<StoredObject>),
    Flight(Arc<Flight>),
    Document(Arc<Document>),
}

/// Why there is no object to serve.
enum Missing {
    /// Nobody knows it.
    Unknown,
    /// The origin refuses, with this status.
    Refused(u16),
    /// The origin cannot be had.
    Origin(OriginError),
    /// Too busy, or no room.
    Busy,
    /// It is announced, or on its way, and does not come.
    NotInTime,
    /// Its bytes proved wrong.
    Broken,
}

impl Player {
    /// Answers one request. `request` has no body that matters.
    pub(super) async fn answer<B>(self: &Arc<Self>, request: Request<B>) -> Response<PlayerBody> {
        let (head, _) = request.into_parts();
        let mut response = match head.method {
            Method::GET | Method::HEAD => {
                let response = self.object_or_page(&head).await;
                if head.method == Method::HEAD { without_body(response) } else { response }
            }
            Method::OPTIONS => options(),
            _ => {
                let mut response =
                    plain(StatusCode::METHOD_NOT_ALLOWED, "this is a cache: GET, HEAD and OPTIONS");
                response.headers_mut().insert(header::ALLOW, http::HeaderValue::from_static(super::METHODS));
                response
            }
        };
        allow_everyone(response.headers_mut());
        self.count(&response);
        response
    }

    async fn object_or_page(self: &Arc<Self>, head: &http::request::Parts) -> Response<PlayerBody> {
        let host = head.headers.get(header::HOST).and_then(|it| it.to_str().ok());
        if head.uri.path() == "/"
            && head.uri.authority().is_none()
            && !host.is_some_and(|it| it.starts_with("dvb.gw"))
        {
            return page::respond(self);
        }
        let keys = match target::keys(&head.uri, host, &self.origins.routes()) {
            Ok(keys) => keys,
            Err(err) => {
                return plain(
                    StatusCode::BAD_REQUEST,
                    &format!("that is no object's name: {}", err.as_str()),
                );
            }
        };
        let key = self.likeliest(&keys);
        for _ in 0..LOOKS {
            let result = match self.find(key).await {
                Ok(Found::Stored(object)) => return stored(&object, &head.method, &head.headers, "hit"),
                Ok(Found::Document(document)) => return signalling(&document, &head.method, &head.headers),
                Ok(Found::Flight(flight)) => self.flight(flight, &head.method, &head.headers).await,
                Err(missing) => Err(missing),
            };
            match result {
                Ok(Some(response)) => return response,
                // What we waited for has made way for something newer: look again.
                Ok(None) => {}
                Err(missing) => return missing.response(key),
            }
        }
        Missing::NotInTime.response(key)
    }

    /// The first key that anybody knows; else the first that an origin could have.
    fn likeliest<'a>(&self, keys: &'a [ObjectKey]) -> &'a ObjectKey {
        let known = |key: &&ObjectKey| {
            let name = key.as_str();
            self.shared.store.contains(name)
                || self.shared.flights.get(name).is_some()
                || self.shared.flights.announced(name).is_some()
                || self.shared.document(name).is_some()
        };
        let first =
            keys.iter().find(known).or_else(|| keys.iter().find(|key| self.origins.url_for(key).is_some()));
        first.unwrap_or(&keys[0])
    }

    async fn find(self: &Arc<Self>, key: &ObjectKey) -> Result<Found, Missing> {
        let held = self.held(key).await;
        let url = self.origins.url_for(key).filter(|_| self.read_through);
        if let Some(object) = held {
            let is_fresh = object
                .meta()
                .expires
                .is_none_or(|expires| clock::trusted_wall().is_none_or(|now| now < expires));
            // Without an origin, what the carousel brought last is the newest there is.
            let (false, Some(url)) = (is_fresh, url) else { return Ok(Found::Stored(object)) };
            return Ok(match self.filler.fill(key, url, None).await {
                FillResult::Flight(flight) => Found::Flight(flight),
                // An origin that fails leaves the stale object the best there is (RFC 9111 section 4.2.4).
                FillResult::Failed(_) | FillResult::Busy | FillResult::Held | FillResult::Refused(500..) => {
                    Found::Stored(object)
                }
                FillResult::Refused(status) => return Err(Missing::Refused(status)),
            });
        }
        if let Some(flight) = self.shared.flights.get(key.as_str()) {
            return Ok(Found::Flight(flight));
        }
        if let Some(document) = self.shared.document(key.as_str()) {
            return Ok(Found::Document(document));
        }
        let announced = self.shared.flights.announced(key.as_str());
        let is_announced = announced.is_some();
        let missing = match url {
            None => None,
            Some(url) => Some(match self.filler.fill_missing(key, url, announced).await {
                // It has come between the look into the cache and this.
                FillResult::Held => {
                    return self.held(key).await.map(Found::Stored).ok_or(Missing::NotInTime);
                }
                FillResult::Flight(flight) => {
                    self.prefetch(key);
                    return Ok(Found::Flight(flight));
                }
                FillResult::Refused(status) => Missing::Refused(status),
                FillResult::Failed(err) => Missing::Origin(err),
                FillResult::Busy => Missing::Busy,
            }),
        };
        // The carousel will bring it, perhaps soon: its FDT says so, or its service is on the air and the FDT that names
        // it has not come yet. An origin that has no such object knows better than the service.
        let is_expected = is_announced
            || (self.origins.is_signalled(key) && !matches!(missing, Some(Missing::Refused(..=499))));
        if !is_expected {
            return Err(missing.unwrap_or(Missing::Unknown));
        }
        let store = &self.shared.store;
        let done = || store.contains(key.as_str());
        match self.shared.flights.wait_for(key.as_str(), self.waits.patience, done).await {
            Some(flight) => Ok(Found::Flight(flight)),
            None => {
                self.held(key).await.map(Found::Stored).ok_or_else(|| missing.unwrap_or(Missing::NotInTime))
            }
        }
    }

    /// The object, if the cache has it. One that is not checked since an unclean stop is checked elsewhere than here.
    async fn held(&self, key: &ObjectKey) -> Option<Arc<StoredObject>> {
        let store = &self.shared.store;
        if !store.needs_check(key.as_str()) {
            return store.get(key.as_str());
        }
        let (store, key) = (store.clone(), key.clone());
        tokio::task::spawn_blocking(move || store.get(key.as_str())).await.ok()?
    }

    /// Serves what is on its way as soon as its first byte asked for is there. `None`: it has been replaced.
    async fn flight(
        &self,
        flight: Arc<Flight>,
        method: &Method,
        request: &HeaderMap,
    ) -> Result<Option<Response<PlayerBody>>, Missing> {
        let key = flight.key.clone();
        let content_type = flight.content_type.clone();
        let digest = flight
            .carried()
            .filter(|_| flight.is_identity)
            .and_then(|it| it.file.content_digest.or(it.file.repr_digest));
        let facts = Facts {
            key: key.as_str(),
            content_type: content_type.as_deref(),
            length: flight.length.filter(|_| flight.is_identity),
            digest,
            received_at: None,
            expires: None,
            now: clock::wall(),
            headers: &flight.headers,
            cache_status: if flight.carried().is_some() {
                "hit; detail=in-flight"
            } else {
                "fwd=miss; collapsed"
            },
        };
        let (reply, send) = facts.respond(method, request);
        let first = match &send {
            // What has an encoding on the air is served when it is whole.
            _ if !flight.is_identity => u64::MAX,
            Send::Pieces(pieces) => pieces
                .iter()
                .find_map(|piece| match piece {
                    super::body::Piece::Range(range) => Some(range.start),
                    super::body::Piece::Bytes(_) => None,
                })
                .unwrap_or(0),
            Send::Everything => 0,
            Send::Nothing => return Ok(Some(finish(reply, PlayerBody::empty()))),
        };
        if !self.wait(&flight, first).await {
            return Err(Missing::NotInTime);
        }
        match flight.outcome() {
            Some(Outcome::Whole(object)) => {
                return Ok(Some(stored(object, method, request, facts.cache_status)));
            }
            Some(Outcome::Failed(FailReason::Replaced)) => return Ok(None),
            Some(Outcome::Failed(FailReason::OriginCut)) => return Err(Missing::Origin(OriginError::Cut)),
            Some(Outcome::Failed(_)) => return Err(Missing::Broken),
            Some(Outcome::Passed(_)) | None => {}
        }
        let pieces = match send {
            Send::Pieces(pieces) => Some(pieces),
            _ => None,
        };
        let body = PlayerBody::flight(flight, Arc::clone(&self.shared.flights), pieces, self.waits);
        Ok(Some(finish(reply, body)))
    }

    /// Waits for the byte at `offset`, asking for repair when it does not come at once.
    async fn wait(&self, flight: &Arc<Flight>, offset: u64) -> bool {
        if flight.wait_for(offset, self.waits.haste).await {
            return true;
        }
        self.shared.flights.wish(flight);
        flight.wait_for(offset, self.waits.patience).await
    }
}

impl Missing {
    fn response(&self, key: &ObjectKey) -> Response<PlayerBody> {
        match self {
            Self::Unknown => plain(
                StatusCode::NOT_FOUND,
                &format!("{key} is not in the cache, not announced, and no origin is configured for it"),
            ),
            Self::Refused(status @ (404 | 410)) => {
                let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::NOT_FOUND);
                plain(status, &format!("the origin has no {key}"))
            }
            Self::Refused(status) => {
                plain(StatusCode::BAD_GATEWAY, &format!("the origin answers {status} for {key}"))
            }
            Self::Origin(OriginError::Timeout) => {
                plain(StatusCode::GATEWAY_TIMEOUT, &format!("the origin of {key} does not answer"))
            }
            Self::Origin(err) => {
                plain(StatusCode::BAD_GATEWAY, &format!("the origin of {key} cannot be had: {err}"))
            }
            Self::Busy => {
                plain(StatusCode::SERVICE_UNAVAILABLE, "too much is being fetched, or the disk is full")
            }
            Self::NotInTime => {
                plain(StatusCode::GATEWAY_TIMEOUT, &format!("{key} is on its way and has not come in time"))
            }
            Self::Broken => {
                plain(StatusCode::BAD_GATEWAY, &format!("what arrived as {key} is not what was announced"))
            }
        }
    }
}

fn finish(reply: http::response::Builder, body: PlayerBody) -> Response<PlayerBody> {
    // Header values that came from outside were checked when they were added; what is left are our own.
    reply
        .body(body)
        .unwrap_or_else(|_| plain(StatusCode::INTERNAL_SERVER_ERROR, "this object's headers cannot be sent"))
}

/// A HEAD response has the head of its GET and nothing after it.
fn without_body(response: Response<PlayerBody>) -> Response<PlayerBody> {
    let (mut head, body) = response.into_parts();
    let length = http_body::Body::size_hint(&body).exact();
    if let Some(length) = length.filter(|_| {
        !head.headers.contains_key(header::CONTENT_LENGTH) && !matches!(body, PlayerBody::Bytes(None))
    }) {
        head.headers.insert(header::CONTENT_LENGTH, length.into());
    }
    Response::from_parts(head, PlayerBody::empty())
}

fn stored(
    object: &Arc<StoredObject>,
    method: &Method,
    request: &HeaderMap,
    cache_status: &str,
) -> Response<PlayerBody> {
    let meta = object.meta();
    let now = clock::wall();
    let is_stale =
        meta.expires.is_some_and(|expires| clock::trusted_wall().is_some_and(|now| now >= expires));
    let facts = Facts {
        key: meta.key.as_str(),
        content_type: meta.content_type.as_deref(),
        length: Some(meta.length),
        digest: Some(meta.digest),
        received_at: Some(meta.received_at),
        expires: meta.expires,
        now,
        headers: &meta.origin_headers,
        cache_status: if is_stale && cache_status == "hit" { "hit; detail=stale" } else { cache_status },
    };
    let (reply, send) = facts.respond(method, request);
    let body = match send {
        Send::Pieces(pieces) => PlayerBody::stored(Arc::clone(object), pieces),
        Send::Nothing | Send::Everything => PlayerBody::empty(),
    };
    finish(reply, body)
}

/// Signalling is kept in memory.
fn signalling(document: &Document, method: &Method, request: &HeaderMap) -> Response<PlayerBody> {
    let facts = Facts {
        key: &document.name,
        content_type: document.content_type.as_deref().or(Some("application/xml")),
        length: Some(document.bytes.len() as u64),
        digest: Some(carousel::digest::Digest::of(&document.bytes)),
        received_at: None,
        expires: Some(WallTime::from_unix_ms(0)),
        now: clock::wall(),
        headers: &[],
        cache_status: "hit",
    };
    let (reply, send) = facts.respond(method, request);
    let mut bytes = Vec::new();
    if let Send::Pieces(pieces) = send {
        for piece in pieces {
            match piece {
                super::body::Piece::Bytes(head) => bytes.extend_from_slice(&head),
                super::body::Piece::Range(range) => {
                    // Within the length given above, which is that of a slice.
                    bytes.extend_from_slice(&document.bytes[range.start as usize..range.end as usize]);
                }
            }
        }
    }
    finish(reply, PlayerBody::of(bytes))
}
