//! The embedded Kubernetes API: the part of kube-apiserver that Caracal and its users need, in process or as a program.
//!
//! Owns storage, versions, watches, custom resources and the wording of answers. Never runs controllers, admission
//! webhooks, RBAC, aggregation or conversion: what it does not do is answered 404, 415 or 501.

mod admission;
mod apply;
mod backend;
mod backup;
mod builtin;
mod cel;
mod discovery;
mod events;
mod health;
mod json;
mod names;
mod openapi;
mod pages;
mod protobuf;
mod request;
mod resource;
mod reviews;
mod schema;
mod selector;
mod server;
mod service;
mod status;
mod store;
mod strategic;
mod table;
mod tokens;
mod verbs;
mod view;

pub use backend::BackendError;
pub use backup::{BackupError, backup_directory, restore};
pub use events::ExpireError;
pub use reviews::User;
pub use server::{AddError, ApiServer, OpenError, Options};
pub use service::{ApiService, ResponseBody};
