//! Watches the API server: metadata only, of what carries the label, from all namespaces.

use std::collections::{BTreeSet, HashMap};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use kube::api::{Api, DynamicObject, PartialObjectMeta};
use kube::core::ObjectMeta;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, ResourceExt};

use super::annotation::{self, Modules, Request};
use super::object::{Kind, MARK, Object};
use super::outage::{Outage, Trouble, chain};
use super::wants::Asked;
use super::{Prewarmer, auto, events, pause};
use crate::config::Config;

/// How many objects a page of a list has, where the server has no streaming lists.
const PAGE: u32 = 100;

/// How long connecting to the API server may take.
const CONNECT: Duration = Duration::from_secs(10);

/// How long the API server may be silent; a watch ends after 290 s by itself.
const SILENCE: Duration = Duration::from_secs(300);

/// How long one object may take to come.
const GET: Duration = Duration::from_secs(30);

/// The pauses after an answer that will not change soon: no such kind, no permission.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The pauses after an answer that may be another one in a moment.
const SHORT_PAUSE: Duration = Duration::from_millis(250);
const LONG_PAUSE: Duration = Duration::from_secs(30);

/// Where the kubelet puts a pod's own token.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Whether the API server is to be watched: as configured, otherwise in a pod that has a token.
pub(super) fn is_wanted(config: &Config) -> bool {
    config.prewarm.kubernetes.unwrap_or_else(|| {
        std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
            && std::path::Path::new(TOKEN).exists()
    })
}

/// Watches until the agent ends.
pub(super) async fn run(this: Arc<Prewarmer>) {
    let client = client(&this).await;
    this.watching("watching");
    let outage = Arc::new(Outage::default());
    for kind in Kind::WATCHED {
        let watch = Watch {
            this: Arc::clone(&this),
            client: client.clone(),
            outage: Arc::clone(&outage),
            kind,
            known: HashMap::new(),
            failures: 0,
            said: None,
        };
        tokio::spawn(watch.run());
    }
    events::run(this, client, outage).await;
}

/// A client as soon as there can be one.
async fn client(this: &Prewarmer) -> Client {
    let mut failures = 0;
    loop {
        match try_client(&this.live.get()).await {
            Ok(client) => return client,
            Err(error) => {
                if failures == 0 {
                    tracing::warn!(error, "the API server cannot be watched; it is tried again");
                }
                this.watching(error);
                tokio::time::sleep(pause(failures, FIRST_PAUSE, LONGEST_PAUSE)).await;
                failures += 1;
            }
        }
    }
}

async fn try_client(config: &Config) -> Result<Client, String> {
    let mut found = match &config.kubeconfig {
        Some(path) => {
            let file = kube::config::Kubeconfig::read_from(path).map_err(|e| chain(&e))?;
            let options = kube::config::KubeConfigOptions::default();
            kube::Config::from_custom_kubeconfig(file, &options).await.map_err(|e| chain(&e))?
        }
        None => kube::Config::incluster().map_err(|e| chain(&e))?,
    };
    found.connect_timeout = Some(CONNECT);
    found.read_timeout = Some(SILENCE);
    found.reset_reader_on_write = true;
    Client::try_from(found).map_err(|error| chain(&error))
}

type Meta = PartialObjectMeta<DynamicObject>;

/// The watch of one kind.
struct Watch {
    this: Arc<Prewarmer>,
    client: Client,
    outage: Arc<Outage>,
    kind: Kind,
    /// The versions of the objects that were looked into, so that they are not fetched twice.
    known: HashMap<Object, (String, Asked)>,
    failures: u32,
    /// What was said about this kind last.
    said: Option<Trouble>,
}

impl Watch {
    async fn run(mut self) {
        let Some(resource) = self.kind.resource() else { return };
        let mut streaming = true;
        loop {
            let api: Api<Meta> = Api::all_with(self.client.clone(), &resource);
            let config = watcher::Config::default().labels(&format!("{MARK}=true")).page_size(PAGE);
            let config = if streaming { config.streaming_lists() } else { config };
            let mut events = pin!(watcher(api, config));
            let mut listed = None;
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => self.handle(event, &mut listed).await,
                    Err(error) => match trouble(&error) {
                        Trouble::Refused(_) if streaming => {
                            streaming = false;
                            break;
                        }
                        trouble => self.wait(trouble).await,
                    },
                }
            }
        }
    }

    async fn handle(&mut self, event: Event<Meta>, listed: &mut Option<BTreeSet<Object>>) {
        // `Init` comes before the server was asked anything.
        if !matches!(event, Event::Init) {
            self.failures = 0;
            if self.said.take().is_some() {
                tracing::info!(kind = self.kind.name(), "is watched now");
            }
        }
        match event {
            Event::Init => *listed = Some(BTreeSet::new()),
            Event::InitApply(meta) => {
                if let Some(listed) = listed {
                    listed.insert(object(self.kind, &meta));
                }
                self.applied(meta).await;
            }
            Event::InitDone => {
                if let Some(listed) = listed.take() {
                    self.known.retain(|object, _| listed.contains(object));
                    self.this.only(self.kind, &listed);
                }
            }
            Event::Apply(meta) => self.applied(meta).await,
            Event::Delete(meta) => self.gone(&object(self.kind, &meta)),
        }
    }

    async fn applied(&mut self, meta: Meta) {
        let object = object(self.kind, &meta);
        let identity = meta.metadata.uid.clone().unwrap_or_default();
        let modules = match meta.annotations().get(MARK).map(|value| annotation::parse(value)) {
            None => {
                Modules::problem(format!("it has the label {MARK} but no annotation of that name"))
            }
            Some(Request::Modules(modules)) => modules,
            Some(Request::Auto) if !self.kind.has_templates() => Modules::problem(format!(
                "auto: a {} has no templates of its own; name the modules",
                self.kind.name()
            )),
            Some(Request::Auto) => {
                self.look_into(object, identity, &meta.metadata).await;
                return;
            }
        };
        self.known.remove(&object);
        self.this.ask(object, Asked::new(identity, modules));
    }

    fn gone(&mut self, object: &Object) {
        self.known.remove(object);
        self.this.forget(object);
    }

    /// Finds out what an object's own templates run.
    async fn look_into(&mut self, object: Object, identity: String, meta: &ObjectMeta) {
        let version = meta.resource_version.clone().unwrap_or_default();
        if let Some((known, asked)) = self.known.get(&object)
            && *known == version
        {
            self.this.ask(object, asked.clone());
            return;
        }
        let Some(found) = self.get(&object).await else { return self.gone(&object) };
        let asked = Asked::new(identity, auto::modules(&found.data));
        self.known.insert(object.clone(), (version, asked.clone()));
        self.this.ask(object, asked);
    }

    /// The whole object, as soon as it can be had; nothing if it is gone.
    async fn get(&mut self, object: &Object) -> Option<DynamicObject> {
        let resource = self.kind.resource()?;
        let client = self.client.clone();
        let api: Api<DynamicObject> = match &object.namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        };
        loop {
            let trouble = match tokio::time::timeout(GET, api.get_opt(&object.name)).await {
                Ok(Ok(found)) => return found,
                Ok(Err(error)) => Trouble::of(&error),
                Err(_) => Trouble::Away("an object did not come in time".to_owned()),
            };
            self.wait(trouble).await;
        }
    }

    /// Says what is new about this trouble, and waits as long as it deserves.
    async fn wait(&mut self, trouble: Trouble) {
        let kind = self.kind.name();
        let short = matches!(trouble, Trouble::Away(_) | Trouble::Outdated);
        match &trouble {
            Trouble::Away(reason) => {
                let this = Arc::clone(&self.this);
                self.outage.wait(&self.client, reason, |how| this.watching(how)).await;
            }
            Trouble::Outdated => {}
            trouble if self.said.as_ref() == Some(trouble) => {}
            Trouble::Missing => {
                tracing::info!(kind, "this cluster has no such kind: it is not prewarmed from");
            }
            Trouble::Forbidden(reason) | Trouble::Refused(reason) => {
                tracing::warn!(kind, reason, "the API server does not let this kind be watched");
            }
        }
        let (first, most) =
            if short { (SHORT_PAUSE, LONG_PAUSE) } else { (FIRST_PAUSE, LONGEST_PAUSE) };
        if !short {
            self.said = Some(trouble);
        }
        tokio::time::sleep(pause(self.failures, first, most)).await;
        self.failures += 1;
    }
}

fn object(kind: Kind, meta: &Meta) -> Object {
    Object { kind, namespace: meta.namespace(), name: meta.name_any() }
}

fn trouble(error: &watcher::Error) -> Trouble {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => Trouble::of(error),
        watcher::Error::WatchError(status) => Trouble::of_status(status.code, &status.message),
        watcher::Error::NoResourceVersion => Trouble::Away(error.to_string()),
    }
}
