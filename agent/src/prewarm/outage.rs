//! Whether the API server is away: said once when it goes, once when it is back.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hyper::http;
use kube::Client;

use super::pause;

/// The first pause before the API server is asked again, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long it may take to answer the smallest of questions.
const ANSWER: Duration = Duration::from_secs(10);

/// What a call to the API server came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The server, or the way to it, is not there.
    Away(String),
    /// It has no such kind.
    Missing,
    /// It does not let us.
    Forbidden(String),
    /// It does not understand the question.
    Refused(String),
    /// What we knew is too old: the next call starts anew.
    Outdated,
}

impl Trouble {
    /// What an error of a call means.
    pub(super) fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_status(status.code, &status.message),
            _ => Self::Away(chain(error)),
        }
    }

    /// What an answer of the server means.
    pub(super) fn of_status(code: u16, message: &str) -> Self {
        let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
        match code {
            401 | 403 => Self::Forbidden(message),
            404 => Self::Missing,
            400 | 422 => Self::Refused(message),
            410 => Self::Outdated,
            _ => Self::Away(message),
        }
    }
}

/// An error with what caused it, on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The outage, if there is one, shared by everything that talks to the API server.
#[derive(Default)]
pub(super) struct Outage(Mutex<bool>);

impl Outage {
    /// Waits until the API server answers. A single broken connection is no outage and not said.
    pub(super) async fn wait(&self, client: &Client, reason: &str, told: impl Fn(String)) {
        let mut failures = 0;
        while !answers(client).await {
            if self.set(true) {
                tracing::warn!(
                    reason,
                    "the API server is away: steps run on, and what was prewarmed stays warm"
                );
                told(format!("the API server is away: {reason}"));
            }
            tokio::time::sleep(pause(failures, FIRST_PAUSE, LONGEST_PAUSE)).await;
            failures += 1;
        }
        if self.set(false) {
            tracing::info!("the API server is back");
            told("watching".to_owned());
        }
    }

    /// Sets whether it is away, and says whether that is new.
    fn set(&self, away: bool) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *state, away) != away
    }
}

/// Whether the API server is there, and ready: one without its etcd is not.
async fn answers(client: &Client) -> bool {
    let Ok(question) = http::Request::get("/readyz").body(Vec::new()) else { return true };
    match tokio::time::timeout(ANSWER, client.request_text(question)).await {
        Ok(Ok(_)) => true,
        // Whoever may not ask has been answered all the same.
        Ok(Err(kube::Error::Api(status))) => status.code < 500,
        Ok(Err(_)) | Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        assert_eq!(Trouble::of_status(404, "no"), Trouble::Missing);
        assert_eq!(Trouble::of_status(403, "a\n b"), Trouble::Forbidden("a b".to_owned()));
        assert_eq!(Trouble::of_status(422, "x"), Trouble::Refused("x".to_owned()));
        assert_eq!(Trouble::of_status(410, ""), Trouble::Outdated);
        assert_eq!(Trouble::of_status(503, "x"), Trouble::Away("x".to_owned()));
    }

    #[test]
    fn an_outage_is_new_once() {
        let outage = Outage::default();
        assert!(!outage.set(false));
        assert!(outage.set(true));
        assert!(!outage.set(true));
        assert!(outage.set(false));
    }
}
