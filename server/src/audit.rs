//! The audit log's newest seal, told to the server's own log: that one is mostly kept elsewhere, out of reach of who can write
//! the database, and `ringfence audit verify --head` compares with it.

use crate::app::{App, rest};
use crate::store::EventFilter;

/// How often, where anything was appended.
const TELL_MS: u64 = 600_000;

/// Tells it for ever.
pub(crate) async fn run(app: App) {
    let mut told = 0;
    loop {
        match app.store.events(EventFilter::default(), i64::MAX, 1).await {
            Ok(newest) => {
                if let Some(event) = newest.first().filter(|e| e.sequence != told) {
                    told = event.sequence;
                    tracing::info!("audit log: newest event {told}:{}", event.seal);
                }
            }
            Err(error) => tracing::warn!("audit log: {error}"),
        }
        rest(TELL_MS).await;
    }
}
