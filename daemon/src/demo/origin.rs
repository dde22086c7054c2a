//! The origin of the demo: serves the sent folders, with ranges, for repair. On loopback, on a port that the system picks.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Component, Path};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The server, until it is dropped.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) address: SocketAddr,
    served: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Origin {
    /// Serves the files below `folder`.
    ///
    /// # Errors
    /// If no port of the loopback address can be bound.
    pub(super) async fn start(folder: &Path) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (folder, served) = (Arc::<Path>::from(folder), Arc::<AtomicU64>::default());
        let counted = Arc::clone(&served);
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let (folder, served) = (Arc::clone(&folder), Arc::clone(&counted));
                let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    let range = request.headers().get(header::RANGE).and_then(|it| it.to_str().ok());
                    let response = answer(&folder, request.uri().path(), range);
                    served.fetch_add(response.1, Ordering::Relaxed);
                    std::future::ready(Ok::<_, Infallible>(response.0))
                });
                tokio::spawn(async move {
                    let connection = hyper::server::conn::http1::Builder::new();
                    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Ok(Self { address, served, task })
    }

    /// Bytes of bodies that were served.
    pub(super) fn served_bytes(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The response, and the bytes of its body.
fn answer(folder: &Path, path: &str, range: Option<&str>) -> (Response<Full<Bytes>>, u64) {
    let relative = Path::new(path.trim_start_matches('/'));
    let is_inside = relative.components().all(|it| matches!(it, Component::Normal(_)));
    let file = is_inside.then(|| std::fs::read(folder.join(relative)).ok()).flatten().map(Bytes::from);
    let mut response = Response::new(Full::default());
    let Some(file) = file else {
        *response.status_mut() = StatusCode::NOT_FOUND;
        return (response, 0);
    };
    let body = match range.and_then(|it| parsed(it, file.len())) {
        Some((begin, end)) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let content_range = format!("bytes {begin}-{}/{}", end - 1, file.len());
            if let Ok(value) = content_range.try_into() {
                response.headers_mut().insert(header::CONTENT_RANGE, value);
            }
            file.slice(begin..end)
        }
        None => file,
    };
    let kind = if path.ends_with(".m3u8") { "application/vnd.apple.mpegurl" } else { "video/mp4" };
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    let bytes = body.len() as u64;
    *response.body_mut() = Full::new(body);
    (response, bytes)
}

/// Begin and end of a single range `bytes=a-b` or `bytes=a-` of `length` bytes; none for any other, which may be ignored.
fn parsed(range: &str, length: usize) -> Option<(usize, usize)> {
    let (begin, end) = range.strip_prefix("bytes=")?.split_once('-')?;
    let begin: usize = begin.parse().ok()?;
    let end = if end.is_empty() { length } else { end.parse::<usize>().ok()?.checked_add(1)?.min(length) };
    (begin < end).then_some((begin, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_the_file() {
        assert_eq!(parsed("bytes=2-4", 10), Some((2, 5)));
        assert_eq!(parsed("bytes=2-", 10), Some((2, 10)));
        assert_eq!(parsed("bytes=2-99", 10), Some((2, 10)));
        for ignored in ["bytes=10-", "bytes=4-2", "bytes=0-1,3-4", "bytes=-5", "items=1-2"] {
            assert_eq!(parsed(ignored, 10), None, "{ignored}");
        }
    }

    #[test]
    fn nothing_outside_of_the_folder_is_served() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("in")).unwrap();
        std::fs::write(folder.path().join("out.txt"), "out").unwrap();
        std::fs::write(folder.path().join("in/a.txt"), "0123456789").unwrap();
        let inside = folder.path().join("in");
        for path in ["/../out.txt", "//../out.txt", "/nothing", "/"] {
            assert_eq!(answer(&inside, path, None).0.status(), StatusCode::NOT_FOUND, "{path}");
        }
        assert_eq!(answer(&inside, "/a.txt", Some("bytes=1-3")).1, 3);
        assert_eq!(answer(&inside, "/a.txt", None).1, 10);
    }
}
