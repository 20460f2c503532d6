//! The paths, and the two places where they are served.

use std::future::Future;
use std::io;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use bytes::Bytes;
use http::{Response, StatusCode};
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;

use super::socket::ControlSocket;
use super::view::{View, answer, text};
use crate::control::{Decision, Order};
use crate::model::{MitigationId, Mode};

/// What can be read.
fn read_only() -> Router<View> {
    Router::new()
        .route("/", get(async |State(view): State<View>| body(view.page())))
        .route(
            "/livez",
            get(async || body(text(StatusCode::OK, "alive\n"))),
        )
        .route(
            "/readyz",
            get(async |State(view): State<View>| body(view.ready())),
        )
        .route(
            "/metrics",
            get(async |State(view): State<View>| body(view.metrics())),
        )
        .route(
            "/history",
            get(async |State(view): State<View>| body(view.history())),
        )
        .route(
            "/status",
            get(async |State(view): State<View>| body(view.status())),
        )
        .fallback(async || body(text(StatusCode::NOT_FOUND, "there is nothing here\n")))
}

/// What can be read, and orders.
fn with_orders() -> Router<View> {
    read_only()
        .route(
            "/reload",
            post(async |State(view): State<View>| {
                let refused = view.reload_settings().await;
                order_after(&view, refused, Order::Reload).await
            }),
        )
        .route(
            "/mitigations/{verb}/{id}",
            post(
                async |State(view): State<View>, Path((verb, id)): Path<(String, String)>| {
                    decide(&view, &verb, &id).await
                },
            ),
        )
        .route(
            "/exceptions",
            post(async |State(view): State<View>, text: Bytes| {
                read_then(&view, &text, Order::Except).await
            })
            .delete(async |State(view): State<View>, name: Bytes| {
                read_then(&view, &name, Order::DeleteException).await
            }),
        )
        .route(
            "/kill-switch/{state}",
            post(
                async |State(view): State<View>, Path(state): Path<String>| match state.as_str() {
                    "on" => order(&view, Order::KillSwitch(true)).await,
                    "off" => order(&view, Order::KillSwitch(false)).await,
                    _ => body(text(
                        StatusCode::NOT_FOUND,
                        "the kill switch is on or off\n",
                    )),
                },
            ),
        )
}

/// Gives an order about what the body of a request says, in JSON.
async fn read_then<T: DeserializeOwned>(
    view: &View,
    json: &[u8],
    about: fn(T) -> Order,
) -> Response<Body> {
    match serde_json::from_slice(json) {
        Ok(read) => order(view, about(read)).await,
        Err(error) => body(text(StatusCode::BAD_REQUEST, &format!("{error}\n"))),
    }
}

/// Follows an order about one mitigation.
async fn decide(view: &View, verb: &str, id: &str) -> Response<Body> {
    let id: MitigationId = match id.parse() {
        Ok(id) => id,
        Err(error) => return body(text(StatusCode::BAD_REQUEST, &format!("{error}\n"))),
    };
    let decision = match verb {
        "approve" => Decision::Approve(id),
        "audit" => Decision::Mode(id, Some(Mode::Audit)),
        "block" => Decision::Block(id),
        "enforce" => Decision::Mode(id, Some(Mode::Enforce)),
        "keep" => Decision::Keep(id),
        "published" => Decision::Mode(id, None),
        "reapply" => return order(view, Order::Reapply(id)).await,
        "retire" => Decision::Retire(id),
        "unblock" => Decision::Unblock(id),
        _ => return body(text(StatusCode::NOT_FOUND, "there is no such order\n")),
    };
    order(view, Order::Decide(decision)).await
}

async fn order(view: &View, order: Order) -> Response<Body> {
    order_after(view, Vec::new(), order).await
}

/// Gives an order; `refused` was refused before it.
async fn order_after(view: &View, refused: Vec<String>, order: Order) -> Response<Body> {
    tracing::info!(?order, "order over the control socket");
    let answered = match view.control().order(order).await {
        Ok(mut outcome) => {
            outcome.refused.splice(..0, refused);
            serde_json::to_vec(&outcome).map_err(|error| error.to_string())
        }
        Err(error) if error.is_refused_order() => {
            return body(text(StatusCode::CONFLICT, &format!("{error}\n")));
        }
        Err(error) => Err(error.to_string()),
    };
    body(match answered {
        Ok(outcome) => answer(StatusCode::OK, "application/json", outcome),
        Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("{reason}\n")),
    })
}

fn body(response: Response<Bytes>) -> Response<Body> {
    response.map(Body::from)
}

/// Serves what can be read on the read-only address, until `stop` is done.
///
/// # Errors
///
/// When the listener fails for good.
pub async fn serve_address(
    listener: TcpListener,
    view: View,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let router = read_only().with_state(view);
    axum::serve(listener, router)
        .with_graceful_shutdown(stop)
        .await
}

/// Serves everything, orders too, on the control socket, until `stop` is done.
///
/// # Errors
///
/// When the listener fails for good.
pub async fn serve_socket(
    socket: ControlSocket,
    view: View,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let router = with_orders().with_state(view);
    let (listener, _remover) = socket.into_parts();
    axum::serve(listener, router)
        .with_graceful_shutdown(stop)
        .await
}
