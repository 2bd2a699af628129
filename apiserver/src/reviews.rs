//! Questions that are answered and not stored: who am I, what may I, and tokens of service accounts.
//!
//! There is no RBAC here: whoever is let in may do everything, and that is what reviews say.

use http::{Method, Request, Response};
use serde_json::{Value, json};

use crate::server::ApiServer;
use crate::service::{ResponseBody, json as answer};
use crate::status::{ApiError, FieldError};
use crate::store::ObjectKey;

/// Who asks. Whoever opens the door to the service puts it into the request's extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// As `system:admin` or `system:serviceaccount:NAMESPACE:NAME`.
    pub name: String,
    /// The groups it is in.
    pub groups: Vec<String>,
}

impl User {
    /// Who may do everything.
    #[must_use]
    pub fn admin() -> Self {
        Self {
            name: "system:admin".to_owned(),
            groups: vec!["system:masters".to_owned(), "system:authenticated".to_owned()],
        }
    }
}

/// (group, resource, kind, namespaced)
pub(crate) const REVIEWS: [(&str, &str, &str, bool); 6] = [
    (
        "authentication.k8s.io",
        "selfsubjectreviews",
        "SelfSubjectReview",
        false,
    ),
    ("authentication.k8s.io", "tokenreviews", "TokenReview", false),
    (
        "authorization.k8s.io",
        "localsubjectaccessreviews",
        "LocalSubjectAccessReview",
        true,
    ),
    (
        "authorization.k8s.io",
        "selfsubjectaccessreviews",
        "SelfSubjectAccessReview",
        false,
    ),
    (
        "authorization.k8s.io",
        "selfsubjectrulesreviews",
        "SelfSubjectRulesReview",
        false,
    ),
    (
        "authorization.k8s.io",
        "subjectaccessreviews",
        "SubjectAccessReview",
        false,
    ),
];

/// Answers a review; `None` when the path is none.
pub(crate) fn review<B>(
    server: &ApiServer,
    group: &str,
    resource: &str,
    request: &Request<B>,
    body: &[u8],
) -> Option<Result<Response<ResponseBody>, ApiError>> {
    let (_, _, kind, _) = REVIEWS
        .iter()
        .find(|known| known.0 == group && known.1 == resource)?;
    if request.method() != Method::POST {
        return Some(Err(ApiError::method_not_allowed()));
    }
    let user = request
        .extensions()
        .get::<User>()
        .cloned()
        .unwrap_or_else(User::admin);
    Some(crate::verbs::decode(body).map(|mut value| {
        let status = match *kind {
            "SelfSubjectReview" => json!({"userInfo": {"username": user.name, "groups": user.groups}}),
            "TokenReview" => token_review(server, &value),
            "SelfSubjectRulesReview" => json!({"incomplete": false,
                "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]}),
            _ => json!({"allowed": true, "reason": "there is no RBAC here: whoever is let in may do everything"}),
        };
        if let Some(fields) = value.as_object_mut() {
            fields.insert("kind".to_owned(), (*kind).into());
            fields.insert("apiVersion".to_owned(), format!("{group}/v1").into());
            fields.entry("metadata").or_insert_with(|| json!({}));
            fields.insert("status".to_owned(), status);
        }
        answer(201, &value)
    }))
}

fn token_review(server: &ApiServer, value: &Value) -> Value {
    let token = value
        .pointer("/spec/token")
        .and_then(Value::as_str)
        .unwrap_or_default();
    match server.user_of(token) {
        Some(user) => json!({"authenticated": true, "user": {"username": user.name, "groups": user.groups}}),
        None => json!({"user": {}, "error": "invalid bearer token"}),
    }
}

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const TOKEN_SECONDS: u64 = 3600;

impl ApiServer {
    /// Makes a token of a service account (`serviceaccounts/NAME/token`).
    pub(crate) fn token(
        &self,
        namespace: &str,
        name: &str,
        body: &[u8],
    ) -> Result<Response<ResponseBody>, ApiError> {
        let mut request = crate::verbs::decode(body)?;
        let account = self
            .store()
            .get(&"serviceaccounts".into(), &ObjectKey::new(namespace, name))
            .ok_or_else(|| ApiError::not_found("", "serviceaccounts", name))?;
        let seconds = match request.pointer("/spec/expirationSeconds") {
            None | Some(Value::Null) => TOKEN_SECONDS,
            Some(found) => found
                .as_u64()
                .filter(|seconds| (600..=1 << 32).contains(seconds))
                .ok_or_else(|| {
                    let why = if found.as_i64().is_some_and(|seconds| seconds < 600) {
                        "may not specify a duration less than 10 minutes"
                    } else {
                        "may not specify a duration larger than 2^32 seconds"
                    };
                    let error = FieldError::invalid("spec.expirationSeconds", found, why);
                    ApiError::invalid("authentication.k8s.io", "TokenRequest", "", &[error])
                })?,
        };
        let uid = account
            .value()
            .pointer("/metadata/uid")
            .cloned()
            .unwrap_or_default();
        let audiences = request
            .pointer("/spec/audiences")
            .cloned()
            .filter(|list| list.is_array());
        let audiences = audiences.unwrap_or_else(|| json!([ISSUER]));
        let now = jiff::Timestamp::now().as_second();
        let expires = now.saturating_add(i64::try_from(seconds).unwrap_or(i64::MAX));
        let claims = json!({"aud": audiences, "exp": expires, "iat": now, "nbf": now,
            "iss": ISSUER, "jti": uuid::Uuid::new_v4().to_string(),
            "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}},
            "sub": format!("system:serviceaccount:{namespace}:{name}")});
        let token = self.shared.tokens.sign(&claims);
        let at = jiff::Timestamp::from_second(expires).unwrap_or(jiff::Timestamp::MAX);
        if let Some(fields) = request.as_object_mut() {
            fields.insert("kind".to_owned(), "TokenRequest".into());
            fields.insert("apiVersion".to_owned(), "authentication.k8s.io/v1".into());
            fields.insert(
                "metadata".to_owned(),
                json!({"name": name, "namespace": namespace,
                "creationTimestamp": super::verbs::now()}),
            );
            let spec = fields.entry("spec").or_insert_with(|| json!({}));
            spec["audiences"] = audiences;
            spec["expirationSeconds"] = seconds.into();
            spec["boundObjectRef"] = spec.get("boundObjectRef").cloned().unwrap_or_default();
            fields.insert(
                "status".to_owned(),
                json!({"token": token, "expirationTimestamp": at.to_string()}),
            );
        }
        Ok(answer(201, &request))
    }

    /// Whose token this is: a service account's that this server made, that has not expired, and whose account is
    /// there still.
    #[must_use]
    pub fn user_of(&self, token: &str) -> Option<User> {
        let claims = self
            .shared
            .tokens
            .verify(token, jiff::Timestamp::now().as_second())?;
        let text = |pointer: &str| claims.pointer(pointer).and_then(Value::as_str);
        let (namespace, name) = (
            text("/kubernetes.io/namespace")?,
            text("/kubernetes.io/serviceaccount/name")?,
        );
        let account = self
            .store()
            .get(&"serviceaccounts".into(), &ObjectKey::new(namespace, name))?
            .value();
        if account.pointer("/metadata/uid") != claims.pointer("/kubernetes.io/serviceaccount/uid") {
            return None;
        }
        Some(User {
            name: text("/sub")?.to_owned(),
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ],
        })
    }
}
