//! The agreement: what the embedded API server answers is what kube-apiserver answers.
//!
//! Requests and kubectl commands are data (`requests/`, `kubectl/`); the answers beside them are kube-apiserver's, with
//! what differs from run to run masked. The embedded server is held to them in every run; a real kube-apiserver is
//! asked again by `make test-kube`. What may differ stands, with its reason, in `docs/api-agreement.md`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs,
    reason = "a test"
)]

mod answers;
mod client;
mod differences;
mod faulty;
mod kinds;
mod kubectl;
mod mask;
mod requests;
mod target;

use target::Target;

#[tokio::test]
async fn the_client_works_on_the_embedded_server() {
    client::check(&Target::embedded_that_forgets(16)).await;
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test-kube"]
async fn the_client_works_on_a_real_server() {
    client::check(&Target::real().await).await;
}

/// Runs one file of requests on the embedded server.
macro_rules! requests {
    ($($name:ident)+) => {
        mod embedded_answers {
            $(#[tokio::test]
            async fn $name() {
                super::requests::check(&super::Target::embedded_for(stringify!($name)), stringify!($name)).await;
            })+
        }

        #[tokio::test]
        #[ignore = "needs a kube-apiserver: make test-kube"]
        async fn real_answers_are_those_recorded() {
            let target = Target::real().await;
            $(requests::check(&target, stringify!($name)).await;)+
        }
    };
}

requests! { kinds objects writes patches apply lists watches refusals discovery }

/// Runs one file of commands on the embedded server.
macro_rules! scripts {
    ($($name:ident)+) => {
        mod embedded_transcripts {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let Some(program) = super::kubectl::program(stringify!($name)) else { return };
                super::kubectl::check(&super::Target::embedded(), &program, stringify!($name)).await;
            })+
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        #[ignore = "needs a kube-apiserver: make test-kube"]
        async fn real_transcripts_are_those_recorded() {
            let target = Target::real().await;
            let program = kubectl::program("the kubectl script").unwrap();
            $(kubectl::check(&target, &program, stringify!($name)).await;)+
        }
    };
}

scripts! { reading writing applying patching deleting waiting knowing }
