//! The time, pauses, chance and other threads. One door for them, so that a simulation can pass through it.

use std::time::Duration;

use jiff::Timestamp;

/// The time.
pub(crate) fn now() -> Timestamp {
    #[cfg(test)]
    if let Some(now) = crate::sim::now() {
        return now;
    }
    Timestamp::now()
}

/// Waits.
pub(crate) async fn pause(time: Duration) {
    #[cfg(test)]
    if crate::sim::now().is_some() {
        return tokio::task::yield_now().await;
    }
    tokio::time::sleep(time).await;
}

/// A number that nobody else has.
pub(crate) fn unique() -> u128 {
    #[cfg(test)]
    if let Some(number) = crate::sim::number() {
        return number;
    }
    rand::random()
}

/// Runs what waits for others in a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, tokio::task::JoinError> {
    #[cfg(test)]
    if crate::sim::now().is_some() {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await
}
