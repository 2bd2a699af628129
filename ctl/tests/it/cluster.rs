//! An API server with a command line before it.

use caracal_apiserver::ApiServer;
use caracal_ctl::args::Arguments;
use caracal_ctl::{Access, Terminal, run};
use caracal_datastore::Client;
use clap::Parser as _;
use serde_json::Value;

pub(crate) struct Cluster {
    pub(crate) client: Client,
}

/// What a command printed, and how it ended.
pub(crate) struct Ran {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) code: u8,
}

impl Ran {
    /// All of it as one text for a snapshot.
    pub(crate) fn shown(&self) -> String {
        let part = |name: &str, text: &str| {
            if text.is_empty() {
                return String::new();
            }
            // The end of each line is marked where it has spaces.
            let text = text.replace(" \n", " ⏎\n");
            format!(
                "--- {name}\n{text}{}",
                if text.ends_with('\n') { "" } else { "⏎\n" }
            )
        };
        format!(
            "{}{}exit {}\n",
            part("stdout", &self.out),
            part("stderr", &self.err),
            self.code
        )
    }
}

impl Cluster {
    pub(crate) fn new() -> Self {
        Self {
            client: Client::from_service(ApiServer::in_memory().service(), "default"),
        }
    }

    /// Runs a command line with a text on stdin. Words may be quoted with `'`.
    pub(crate) async fn run_with(&self, line: &str, input: &str) -> Ran {
        let words = std::iter::once("caracalctl".to_owned()).chain(words(line));
        let arguments = Arguments::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
        let terminal = Terminal::in_memory(input);
        let result = run(arguments, &terminal, &Access::Client(self.client.clone())).await;
        let (mut out, mut err) = terminal.into_texts();
        let code = match result {
            Ok(()) => 0,
            Err(failure) => {
                let stream = if failure.is_on_stdout() {
                    &mut out
                } else {
                    &mut err
                };
                if !failure.to_string().is_empty() {
                    stream.push_str(&format!("{failure}\n"));
                }
                failure.code()
            }
        };
        Ran { out, err, code }
    }

    pub(crate) async fn run(&self, line: &str) -> Ran {
        self.run_with(line, "").await
    }

    /// Runs a command that must succeed.
    pub(crate) async fn done(&self, line: &str, input: &str) -> String {
        let ran = self.run_with(line, input).await;
        assert_eq!(ran.code, 0, "{line}: {}", ran.shown());
        ran.out
    }

    /// Sends a request to the API itself.
    pub(crate) async fn send(&self, method: &str, path: &str, body: &Value) -> Value {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(
                "content-type",
                if method == "PATCH" {
                    "application/merge-patch+json"
                } else {
                    "application/json"
                },
            )
            .body(if body.is_null() {
                Vec::new()
            } else {
                body.to_string().into_bytes()
            })
            .unwrap();
        self.client.kube().request(request).await.unwrap()
    }
}

fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        if index % 2 == 1 {
            let glued = line
                .split('\'')
                .nth(index - 1)
                .is_some_and(|before| !before.ends_with(' '));
            match words.last_mut() {
                Some(last) if glued => String::push_str(last, part),
                _ => words.push(part.to_owned()),
            }
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}
