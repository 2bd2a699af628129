//! From an HTTP request to an answer: bodies are read here, and requests find their verb.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use serde_json::Value;

use crate::request::{Query, ResourcePath};
use crate::resource::Resource;
use crate::server::ApiServer;
use crate::status::ApiError;
use crate::view::View;

/// The body of an answer: whole, or the lines of a watch as they come.
pub type ResponseBody = UnsyncBoxBody<Bytes, Infallible>;

const BODY_LIMIT: usize = 3 << 20;

/// An [`ApiServer`] as a `tower::Service`.
#[derive(Clone)]
pub struct ApiService {
    pub(crate) server: ApiServer,
}

impl ApiService {
    /// Whose token this is; see [`ApiServer::user_of`].
    #[must_use]
    pub fn user_of(&self, token: &str) -> Option<crate::User> {
        self.server.user_of(token)
    }
}

impl<B> tower::Service<Request<B>> for ApiService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let server = self.server.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let (method, path) = (parts.method.clone(), parts.uri.path().to_owned());
            let answer = match Limited::new(body, BODY_LIMIT).collect().await {
                Ok(body) => route(&server, Request::from_parts(parts, body.to_bytes())).await,
                Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                    Err(ApiError::too_large(BODY_LIMIT))
                }
                Err(error) => Err(ApiError::bad_request(format!(
                    "the body could not be read: {error}"
                ))),
            };
            let answer = answer.unwrap_or_else(|error| refusal(&error));
            let resource = ResourcePath::parse(&path).map(|target| target.resource);
            let code = answer.status().as_u16();
            // Names that nobody serves are not counted apart: clients choose them.
            let resource = resource.filter(|_| code != 404).unwrap_or_default();
            server.shared.counts.answered(method.as_str(), &resource, code);
            Ok(answer)
        })
    }
}

/// The answer where nothing is, not even an API.
fn no_page() -> Response<ResponseBody> {
    let mut response = Response::new(Full::from("404 page not found\n").boxed_unsync());
    *response.status_mut() = http::StatusCode::NOT_FOUND;
    let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

/// What is asked for is of a group that is not served.
fn absent(group: &str, error: ApiError) -> Result<Response<ResponseBody>, ApiError> {
    let missing = match group {
        "rbac.authorization.k8s.io" => "RBAC: whoever has this server's token may do everything",
        "apiregistration.k8s.io" => "aggregation of further API servers",
        _ if error.code == 404 => return Ok(no_page()),
        _ => return Err(error),
    };
    let message = format!("the embedded Kubernetes API has no {missing}");
    Err(ApiError::new(501, "NotImplemented", message))
}

fn refusal(error: &ApiError) -> Response<ResponseBody> {
    let mut response = json(error.code, &error.to_value());
    if let Some(seconds) = error.details.get("retryAfterSeconds").and_then(Value::as_u64) {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// Adds what is to be told beside the answer.
fn warned(mut response: Response<ResponseBody>, warnings: &[String]) -> Response<ResponseBody> {
    for warning in warnings {
        let text = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = header::HeaderValue::from_str(&format!("299 - \"{text}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}

/// An answer of JSON.
pub(crate) fn json(code: u16, value: &Value) -> Response<ResponseBody> {
    encoded(code, value.to_string().into())
}

/// An answer of JSON that is encoded already.
pub(crate) fn encoded(code: u16, body: Bytes) -> Response<ResponseBody> {
    of_json(code, Full::new(body).boxed_unsync())
}

/// An answer whose body is JSON.
pub(crate) fn of_json(code: u16, body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// The name of the program that asks, from its user agent.
fn program_of(headers: &http::HeaderMap) -> String {
    let agent = headers
        .get(header::USER_AGENT)
        .and_then(|agent| agent.to_str().ok());
    let name = agent.and_then(|agent| agent.split(['/', ' ']).next());
    name.filter(|name| !name.is_empty())
        .unwrap_or("unknown")
        .to_owned()
}

async fn route(server: &ApiServer, request: Request<Bytes>) -> Result<Response<ResponseBody>, ApiError> {
    let path = request.uri().path().to_owned();
    let Some(target) = ResourcePath::parse(&path) else {
        if request.method() != Method::GET {
            return Err(ApiError::no_such_path());
        }
        let query = Query::parse(request.uri().query());
        return crate::discovery::answer(server, &path, request.headers(), &query)
            .map_or_else(|| Ok(no_page()), Ok);
    };
    if let Some(answer) =
        crate::reviews::review(server, &target.group, &target.resource, &request, request.body())
    {
        return answer;
    }
    let resource = match server.resource(&target) {
        Err(error) if !crate::resource::is_built_in(&target.group, &target.version) => {
            return absent(&target.group, error);
        }
        found => found?,
    };
    let mut query = Query::parse(request.uri().query());
    crate::verbs::options::writing(&query, request.method())?;
    let patches_by_applying = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/apply-patch"));
    if !patches_by_applying {
        query.set_default("fieldManager", &program_of(request.headers()));
    }
    let namespace = target.namespace.clone().unwrap_or_default();
    match (target.subresource.as_deref(), resource.has_status) {
        (None, _) | (Some("status"), true) => {}
        (Some("binding"), _) if &*resource.storage == "pods" && request.method() == Method::POST => {
            return server.bind(&resource, &namespace, &target, request.body()).await;
        }
        (Some("scale"), _) if crate::verbs::scale::has_scale(&resource) => {
            let parts = (request.method(), request.headers(), request.body().as_ref());
            return server.scale(&resource, &target, parts, &query).await;
        }
        (Some("token"), _) if &*resource.storage == "serviceaccounts" && request.method() == Method::POST => {
            let name = target.name.as_deref().unwrap_or_default();
            return server.token(&namespace, name, request.body());
        }
        _ if resource.is_custom() => {
            let name = target.name.as_deref().unwrap_or_default();
            return Err(ApiError::not_found(&resource.group, &resource.plural, name));
        }
        _ => return Err(ApiError::no_such_path()),
    }
    if &*resource.storage == "endpoints" {
        query.warn("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".to_owned());
    }
    let stores_limits = matches!(&*resource.storage, "resourcequotas" | "limitranges");
    if stores_limits && request.method() == Method::POST {
        query.warn("this server stores quotas and limits and does not hold anybody to them".to_owned());
    }
    let stores_policy = resource.group == crate::resource::POLICIES && request.method() == Method::POST;
    if stores_policy && !resource.kind.ends_with("Binding") {
        query.warn(
            "this server stores admission policies and does not run them; what those of Calico do is built in".to_owned(),
        );
    }
    let answer = act(server, &resource, &target, &request, &mut query).await?;
    let answer = warned(answer, &query.warnings());
    if View::wants_yaml(request.headers()) {
        return as_yaml(answer).await;
    }
    Ok(answer)
}

/// The same answer in YAML.
async fn as_yaml(answer: Response<ResponseBody>) -> Result<Response<ResponseBody>, ApiError> {
    let (mut parts, body) = answer.into_parts();
    let Ok(body) = body.collect().await;
    let value: Value =
        serde_json::from_slice(&body.to_bytes()).map_err(|error| ApiError::internal(error.to_string()))?;
    let text = caracal_api::yaml::to_string(&value).map_err(|error| ApiError::internal(error.to_string()))?;
    let kind = header::HeaderValue::from_static("application/yaml");
    parts.headers.insert(header::CONTENT_TYPE, kind);
    Ok(Response::from_parts(parts, Full::from(text).boxed_unsync()))
}

async fn act(
    server: &ApiServer,
    resource: &Resource,
    target: &ResourcePath,
    request: &Request<Bytes>,
    query: &mut Query,
) -> Result<Response<ResponseBody>, ApiError> {
    let namespace = target.namespace.clone().unwrap_or_default();
    let (headers, body) = (request.headers(), request.body());
    let status = target.subresource.is_some();
    // One object is watched by the old form only; otherwise it is read.
    let watches = target.watch || target.name.is_none() && query.is_true("watch");
    let view = View::of(resource, headers, query, target.name.is_none() && !watches)?;
    let events = crate::events::is_other_form(resource);
    if events {
        query.set(
            "fieldSelector",
            crate::events::selector(query.get("fieldSelector")),
        );
    }
    let stored = if events { Some(server.events()?) } else { None };
    let resource = stored.as_deref().unwrap_or(resource);
    match (request.method(), target.name.as_deref()) {
        (&Method::GET, Some(name)) if watches => {
            let fields = format!("metadata.name={name},{}", query.get("fieldSelector"));
            server.watch(resource, target.namespace.as_deref(), query, &fields, view)
        }
        (&Method::GET, Some(name)) => server.get(resource, &namespace, name, query, &view),
        (&Method::GET, None) if watches => server.watch(
            resource,
            target.namespace.as_deref(),
            query,
            query.get("fieldSelector"),
            view,
        ),
        (&Method::GET, None) => server.list(resource, target.namespace.as_deref(), query, &view),
        (&Method::POST, None) => {
            let mut value = crate::verbs::body::object(resource, headers, body, query)?;
            if events {
                crate::events::to_stored(&mut value);
            }
            let created = server.create(resource, &namespace, value, query).await?;
            if &*resource.storage == crate::events::EVENTS {
                server.expire_now_and_then().await;
            }
            Ok(json(201, &view.value(&created, true)))
        }
        (&Method::PUT, Some(name)) => {
            let mut value = crate::verbs::body::object(resource, headers, body, query)?;
            if events {
                crate::events::to_stored(&mut value);
            }
            let change = crate::verbs::Change::Replace(value);
            let updated = server
                .update(resource, &namespace, name, status, change, query)
                .await?;
            Ok(json(200, &view.value(&updated, true)))
        }
        (&Method::PATCH, Some(name)) => {
            let kind = headers
                .get(header::CONTENT_TYPE)
                .and_then(|kind| kind.to_str().ok());
            let mut change = crate::verbs::patch(resource, kind.unwrap_or_default(), body, query)?;
            if events {
                change.convert(crate::events::to_stored)?;
            }
            let (created, value) = server
                .apply(resource, &namespace, name, status, change, query)
                .await?;
            Ok(json(if created { 201 } else { 200 }, &view.value(&value, true)))
        }
        (&Method::DELETE, Some(name)) if !status => {
            server.delete(resource, &namespace, name, body, query).await
        }
        (&Method::PATCH | &Method::PUT, None) if resource.is_custom() => {
            Err(ApiError::bad_request("name must be provided"))
        }
        (&Method::DELETE, None) if resource.deletes_collections() => {
            server
                .delete_collection(resource, target.namespace.as_deref(), body, query)
                .await
        }
        _ => Err(ApiError::method_not_allowed()),
    }
}
