//! The handlers: each asks the instance for one thing.

use axum::extract::{ConnectInfo, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;
use axum::{Json, Router};
use explain::Question;
use serde::Deserialize;
use serde_json::{Value, json};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Sent with every request that changes something.
pub(crate) const GUARD_HEADER: &str = "x-cutwater-command";

/// The running instance, as the admin address sees it.
pub trait Subject: Send + Sync + 'static {
    /// Prometheus text format.
    fn metrics(&self) -> String;

    /// An error says what is missing.
    fn ready(&self) -> Result<(), String>;

    /// An error says why there is none yet.
    fn snapshot(&self) -> Result<Value, String>;

    /// Starts the program anew and hands over to it; an error says why this process serves on.
    fn upgrade(&self) -> impl Future<Output = Result<Value, String>> + Send;

    /// An error says why nothing can be explained yet.
    fn explain(&self, question: Question) -> impl Future<Output = Result<Value, String>> + Send;
}

/// Serves until `stop` completes; then finishes what is being answered. `closed` is dropped in between, when no further
/// connection is taken.
pub async fn serve<S: Subject>(
    listener: TcpListener,
    subject: Arc<S>,
    stop: impl Future<Output = ()> + Send + 'static,
    closed: oneshot::Sender<()>,
) -> io::Result<()> {
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz::<S>))
        .route("/metrics", get(metrics::<S>))
        .route("/snapshot", get(snapshot::<S>))
        .route("/explain", get(explain::<S>))
        .route("/upgrade", post(upgrade::<S>))
        .fallback(unknown)
        .with_state(subject);
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let listener = listener.tap_io(move |io| {
        // It goes with the listener.
        let _closed = &closed;
        // A socket that cannot be told to send at once still works.
        let _ = io.set_nodelay(true);
    });
    axum::serve(listener, service).with_graceful_shutdown(stop).await
}

async fn readyz<S: Subject>(State(subject): State<Arc<S>>) -> Response {
    match subject.ready() {
        Ok(()) => "ok\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why + "\n").into_response(),
    }
}

async fn metrics<S: Subject>(State(subject): State<Arc<S>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], subject.metrics())
        .into_response()
}

async fn snapshot<S: Subject>(State(subject): State<Arc<S>>) -> Response {
    match subject.snapshot() {
        Ok(plan) => Json(plan).into_response(),
        Err(why) => refuse(StatusCode::SERVICE_UNAVAILABLE, &why),
    }
}

#[derive(Deserialize)]
struct ExplainQuery {
    /// A hostname or a URL.
    host: Option<String>,
    method: Option<String>,
    /// The client's address.
    from: Option<String>,
}

async fn explain<S: Subject>(
    State(subject): State<Arc<S>>,
    query: Query<ExplainQuery>,
) -> Response {
    let Some(host) = &query.host else {
        return refuse(StatusCode::BAD_REQUEST, "the query needs host=HOST or host=URL");
    };
    let question = match Question::parse(host, query.method.as_deref().unwrap_or("GET")) {
        Ok(question) => question,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let Ok(from) = query.from.as_deref().map(str::parse).transpose() else {
        return refuse(StatusCode::BAD_REQUEST, "from= is no IP address");
    };
    match subject.explain(question.from(from)).await {
        Ok(explanation) => Json(explanation).into_response(),
        Err(why) => refuse(StatusCode::SERVICE_UNAVAILABLE, &why),
    }
}

async fn upgrade<S: Subject>(
    State(subject): State<Arc<S>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    if let Err(why) = guard(peer, &headers) {
        return refuse(StatusCode::FORBIDDEN, why);
    }
    match subject.upgrade().await {
        Ok(upgraded) => Json(upgraded).into_response(),
        Err(why) => refuse(StatusCode::SERVICE_UNAVAILABLE, &why),
    }
}

/// What changes something is for this machine's own programs. A page in a browser on this machine could send a request
/// too: it cannot add a field of its own without asking first, which nothing here allows, and a name that it made lead
/// to this address is not one of ours.
fn guard(peer: SocketAddr, headers: &HeaderMap) -> Result<(), &'static str> {
    if !peer.ip().to_canonical().is_loopback() {
        return Err("this is answered to clients on this machine only; ask by a loopback address");
    }
    if !headers.contains_key(GUARD_HEADER) {
        return Err(
            "the request needs the field x-cutwater-command, as `cutwater upgrade` sends it",
        );
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_address = host.parse::<SocketAddr>().is_ok() || host.parse::<IpAddr>().is_ok();
    let is_local = host.split(':').next().is_some_and(|name| name == "localhost");
    match is_address || is_local {
        true => Ok(()),
        false => Err("the field host must be an address or localhost"),
    }
}

fn refuse(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"error": message}))).into_response()
}

async fn unknown() -> Response {
    let known =
        "known paths: /livez /readyz /metrics /snapshot /explain?host=HOST, and POST /upgrade\n";
    (StatusCode::NOT_FOUND, known).into_response()
}
