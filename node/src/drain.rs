//! Taking a node out of others' paths before it ends, and putting it back: an annotation of the Node, which bgpd reads.
//!
//! Source: RFC 8326 (graceful BGP session shutdown).

use std::path::Path;
use std::time::{Duration, Instant};

use caracal_datastore::{Client, Error};
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use crate::probe;

/// The annotation, as bgpd knows it.
pub const ANNOTATION: &str = "caracal.dev/bgp-drain";
/// How long bgpd may take for an answer.
const ANSWER: Duration = Duration::from_secs(10);
/// How often bgpd is asked whether it knows.
const PERIOD: Duration = Duration::from_millis(200);

/// Writes the wish to the Node.
///
/// # Errors
/// Any failed request.
pub async fn write(client: &Client, node: &str, drain: bool) -> Result<(), Error> {
    let value = if drain { json!("true") } else { Value::Null };
    let patch = json!({"metadata": {"annotations": {ANNOTATION: value}}});
    client.patch_status::<Node>(None, node, &patch).await.map(drop)
}

/// Waits until bgpd's configuration has the wish.
///
/// # Errors
/// When bgpd does not answer, or does not take it in time.
pub async fn taken(control: &Path, drain: bool, patience: Duration) -> Result<(), String> {
    let end = Instant::now() + patience;
    loop {
        let answer = probe::ask(control, "{\"request\":\"config\"}\n", ANSWER).await?;
        let config: Value = serde_json::from_str(&answer).map_err(|error| error.to_string())?;
        let is_drained = config.get("drain").and_then(Value::as_bool).unwrap_or(false);
        if is_drained == drain {
            return Ok(());
        }
        if Instant::now() >= end {
            return Err(format!(
                "bgpd did not take the Node's annotation {ANNOTATION} within {} s; its log says why",
                patience.as_secs()
            ));
        }
        tokio::time::sleep(PERIOD).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::UnixListener;

    #[tokio::test]
    async fn the_wish_counts_once_bgpd_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bgpd.sock");
        let listener = UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            // Off, on, and then for ever on.
            for answer in [r#"{"drain":false}"#, "null"]
                .into_iter()
                .chain(std::iter::repeat(r#"{"drain":true}"#))
            {
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream = BufReader::new(stream);
                let mut request = String::new();
                stream.read_line(&mut request).await.unwrap();
                assert!(request.contains("config"));
                stream.write_all(format!("{answer}\n").as_bytes()).await.unwrap();
            }
        });
        let patience = Duration::from_secs(30);
        taken(&path, true, patience).await.unwrap();
        let error = taken(&path, false, Duration::from_millis(1)).await.unwrap_err();
        assert!(error.contains("caracal.dev/bgp-drain"), "{error}");
        let gone = taken(&folder.path().join("none"), true, patience)
            .await
            .unwrap_err();
        assert!(gone.contains("cannot be asked"), "{gone}");
    }
}
