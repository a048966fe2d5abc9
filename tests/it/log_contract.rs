//! What every store promises of its audit log.

use crate::store_contract::{event, row};
use ringfence_domain::audit::Chain;
use ringfence_server::store::{EventFilter, Kind, Store};
use std::sync::Arc;

/// Many append at once, alone and with what they change: every seal follows the one before.
pub(crate) async fn log(store: Arc<dyn Store>, whole: bool) {
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let store = store.clone();
        writers.spawn(async move {
            for n in 0..10 {
                let made = row(Kind::Freeze, &format!("log-{whole}-{writer}-{n}"), "");
                assert!(store.update(&[made], &event("make")).await.unwrap());
                store.append(&event("append")).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    let (mut chain, mut below) = (Chain::default(), i64::MAX);
    loop {
        let page = store.events(EventFilter::default(), below, 50).await.unwrap();
        let Some(last) = page.last() else { break };
        below = last.sequence;
        page.into_iter().for_each(|e| chain.read(e.sequence, e.event, e.seal));
    }
    chain.ends();
    assert!(chain.events >= 160 && chain.broken.is_empty(), "{chain:?}");
    let (head, _) = chain.head.expect("a head");
    assert_eq!(u64::try_from(head) == Ok(chain.events), whole, "no number is left out");
}
