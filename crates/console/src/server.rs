//! The handlers: each asks the instance for one thing.

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use explain::Question;
use serde::Deserialize;
use serde_json::{Value, json};
use std::future::Future;
use std::io;
use std::sync::Arc;
use tokio::net::TcpListener;

/// The running instance, as the admin address sees it.
pub trait Subject: Send + Sync + 'static {
    /// Prometheus text format.
    fn metrics(&self) -> String;

    /// An error says what is missing.
    fn ready(&self) -> Result<(), String>;

    /// An error says why there is none yet.
    fn snapshot(&self) -> Result<Value, String>;

    /// An error says why nothing can be explained yet.
    fn explain(&self, question: Question) -> impl Future<Output = Result<Value, String>> + Send;
}

/// Serves until `stop` completes.
pub async fn serve<S: Subject>(
    listener: TcpListener,
    subject: Arc<S>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz::<S>))
        .route("/metrics", get(metrics::<S>))
        .route("/snapshot", get(snapshot::<S>))
        .route("/explain", get(explain::<S>))
        .fallback(unknown)
        .with_state(subject);
    axum::serve(listener, router).with_graceful_shutdown(stop).await
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
    match subject.explain(question).await {
        Ok(explanation) => Json(explanation).into_response(),
        Err(why) => refuse(StatusCode::SERVICE_UNAVAILABLE, &why),
    }
}

fn refuse(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"error": message}))).into_response()
}

async fn unknown() -> Response {
    let known = "known paths: /livez /readyz /metrics /snapshot /explain?host=HOST\n";
    (StatusCode::NOT_FOUND, known).into_response()
}
