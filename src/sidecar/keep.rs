//! Keeps what is held where it should be, between orders.

use std::collections::BTreeMap;
use std::time::Duration;

use super::agent::Agent;
use super::target::Target;

/// The time between two looks at everything that is held.
const INTERVAL: Duration = Duration::from_secs(30);

/// The time before the first new try; it doubles with each further one, up to [`INTERVAL`].
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// Finishes what the last process left, then looks again and again, and tells when something changes. Never ends.
pub async fn keep(agent: &Agent) {
    let mut told: BTreeMap<Target, String> = BTreeMap::new();
    let mut wait = FIRST_RETRY;
    loop {
        let problems: BTreeMap<_, _> = agent.converge().await.into_iter().collect();
        for (target, problem) in &problems {
            if told.get(target) != Some(problem) {
                tracing::error!(%target, problem, "not as it should be; tried again later");
            }
        }
        for target in told.keys().filter(|target| !problems.contains_key(target)) {
            tracing::info!(%target, "as it should be again");
        }
        wait = match problems.is_empty() {
            true => FIRST_RETRY,
            false => (wait * 2).min(INTERVAL),
        };
        let pause = match problems.is_empty() {
            true => INTERVAL,
            false => wait,
        };
        told = problems;
        tokio::time::sleep(pause).await;
    }
}
