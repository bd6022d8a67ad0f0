//! Says failures as Events on the objects that asked for what failed, each once.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use warmstep_registry::Digest;

use super::Prewarmer;
use super::object::Kind;
use super::outage::{Outage, Trouble};
use super::wants::News;

/// The least time between two Events of this node: a thousand nodes may have the same to say.
const BETWEEN: Duration = Duration::from_millis(200);

/// How long one Event may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// The longest note that the API takes (events.k8s.io/v1), in bytes.
const MAX_NOTE: usize = 1024;

/// The most of an object's name that an Event's own name repeats, in bytes: a name has 253.
const MAX_NAME: usize = 200;

/// What reports, and what it did (events.k8s.io/v1 wants both).
const CONTROLLER: &str = "warmstep.dev/agent";
const REASON: &str = "PrewarmFailed";
const ACTION: &str = "Prewarm";

/// Creates Events until the agent ends.
pub(super) async fn run(this: Arc<Prewarmer>, client: Client, outage: Arc<Outage>) {
    loop {
        this.news.notified().await;
        let news = this.wants().news();
        for one in news.into_iter().filter(|one| one.object.kind != Kind::File) {
            tell(&this, &client, &outage, &one).await;
            this.wants().told(&one);
            // What has been told is to be remembered.
            this.work.notify_one();
            tokio::time::sleep(BETWEEN).await;
        }
    }
}

/// Creates one Event, however long the API server is away.
async fn tell(this: &Prewarmer, client: &Client, outage: &Outage, news: &News) {
    let node = this.live.get().node();
    let event = event(news, &node, Timestamp::now());
    let namespace = event.metadata.namespace.clone().unwrap_or_default();
    let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
    let plainly = PostParams::default();
    loop {
        let created = api.create(&plainly, &event);
        let trouble = match tokio::time::timeout(DEADLINE, created).await {
            Ok(Ok(_)) => return,
            // It was told by an earlier start of this agent.
            Ok(Err(kube::Error::Api(status))) if status.is_already_exists() => return,
            Ok(Err(error)) => Trouble::of(&error),
            Err(_) => Trouble::Away("an event was not taken in time".to_owned()),
        };
        match trouble {
            Trouble::Away(reason) => {
                outage.wait(client, &reason, |how| this.watching(how)).await;
                tokio::time::sleep(BETWEEN).await;
            }
            // The namespace may be on its way out, or we may not: the log has said what failed.
            trouble => {
                tracing::debug!(object = %news.object, ?trouble, "an event was not taken");
                return;
            }
        }
    }
}

/// The Event. Its name is that of what it says, so that it cannot be there twice.
fn event(news: &News, node: &str, now: Timestamp) -> Event {
    let object = &news.object;
    // Where the API wants events of what has no namespace.
    let namespace = object.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let resource = object.kind.resource();
    Event {
        metadata: ObjectMeta {
            name: Some(name(news, node)),
            namespace: Some(namespace),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        type_: Some("Warning".to_owned()),
        reason: Some(REASON.to_owned()),
        action: Some(ACTION.to_owned()),
        note: Some(cut(&format!("node {node}: {}", news.said), MAX_NOTE).to_owned()),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(cut(node, 128).to_owned()),
        regarding: Some(ObjectReference {
            api_version: resource.map(|resource| resource.api_version),
            kind: Some(object.kind.name().to_owned()),
            namespace: object.namespace.clone(),
            name: Some(object.name.clone()),
            uid: Some(news.identity.clone()),
            ..ObjectReference::default()
        }),
        ..Event::default()
    }
}

fn name(news: &News, node: &str) -> String {
    let said = format!("{}\n{}\n{}\n{node}", news.object, news.identity, news.said);
    let digest = Digest::of(said.as_bytes()).hex();
    let name = cut(&news.object.name, MAX_NAME).trim_end_matches(['.', '-']);
    format!("{name}.{}", cut(&digest, 16))
}

/// The beginning of a text, in whole characters.
fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

#[cfg(test)]
mod tests {
    use super::super::object::Object;
    use super::*;

    fn news(kind: Kind, namespace: Option<&str>, said: &str) -> News {
        let namespace = namespace.map(str::to_owned);
        let object = Object { kind, namespace, name: "render".to_owned() };
        News { object, identity: "uid".to_owned(), said: said.to_owned() }
    }

    #[test]
    fn an_event_is_named_after_what_it_says_and_where() {
        let one = news(Kind::WorkflowTemplate, Some("team"), "no such module");
        let now = Timestamp::UNIX_EPOCH;
        let first = event(&one, "node-1", now);
        assert_eq!(first.metadata.name, event(&one, "node-1", Timestamp::now()).metadata.name);
        assert_ne!(first.metadata.name, event(&one, "node-2", now).metadata.name);
        let other = news(Kind::WorkflowTemplate, Some("team"), "denied");
        assert_ne!(first.metadata.name, event(&other, "node-1", now).metadata.name);
        assert_eq!(first.note.as_deref(), Some("node node-1: no such module"));
        assert_eq!(first.metadata.namespace.as_deref(), Some("team"));
        assert_eq!(first.regarding.unwrap().api_version.as_deref(), Some("argoproj.io/v1alpha1"));
    }

    #[test]
    fn what_has_no_namespace_is_told_in_the_default_one_and_notes_are_cut() {
        let one = news(Kind::Namespace, None, &"é".repeat(2000));
        let event = event(&one, "n", Timestamp::UNIX_EPOCH);
        assert_eq!(event.metadata.namespace.as_deref(), Some("default"));
        assert_eq!(event.regarding.unwrap().namespace, None);
        assert!(event.note.unwrap().len() <= MAX_NOTE);
    }
}
