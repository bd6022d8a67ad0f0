//! Who wants modules warm: annotated objects of Kubernetes, and files of this node.

use std::fmt;

use kube::api::ApiResource;
use serde::{Deserialize, Serialize};

/// The annotation that names modules, and the label that lets it be found: annotations cannot be
/// selected.
pub(crate) const MARK: &str = "warmstep.dev/prewarm";

/// What may want modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// Argo's, of a namespace.
    WorkflowTemplate,
    /// Argo's, of the cluster.
    ClusterWorkflowTemplate,
    /// Argo's, by the clock.
    CronWorkflow,
    /// A namespace itself.
    Namespace,
    /// What an operator writes for the purpose.
    ConfigMap,
    /// A file in `modules_dir`.
    File,
}

impl Kind {
    /// Those that the API server knows.
    pub(crate) const WATCHED: [Self; 5] = [
        Self::WorkflowTemplate,
        Self::ClusterWorkflowTemplate,
        Self::CronWorkflow,
        Self::Namespace,
        Self::ConfigMap,
    ];

    /// Its name as manifests write it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::WorkflowTemplate => "WorkflowTemplate",
            Self::ClusterWorkflowTemplate => "ClusterWorkflowTemplate",
            Self::CronWorkflow => "CronWorkflow",
            Self::Namespace => "Namespace",
            Self::ConfigMap => "ConfigMap",
            Self::File => "File",
        }
    }

    /// Whether it holds templates of its own, in which `auto` may look.
    pub(crate) fn has_templates(self) -> bool {
        matches!(self, Self::WorkflowTemplate | Self::ClusterWorkflowTemplate | Self::CronWorkflow)
    }

    /// Where the API server has it; nothing for a file.
    pub(crate) fn resource(self) -> Option<ApiResource> {
        let (group, version, plural) = match self {
            Self::WorkflowTemplate => ("argoproj.io", "v1alpha1", "workflowtemplates"),
            Self::ClusterWorkflowTemplate => {
                ("argoproj.io", "v1alpha1", "clusterworkflowtemplates")
            }
            Self::CronWorkflow => ("argoproj.io", "v1alpha1", "cronworkflows"),
            Self::Namespace => ("", "v1", "namespaces"),
            Self::ConfigMap => ("", "v1", "configmaps"),
            Self::File => return None,
        };
        Some(ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: if group.is_empty() {
                version.to_owned()
            } else {
                format!("{group}/{version}")
            },
            kind: self.name().to_owned(),
            plural: plural.to_owned(),
        })
    }
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Object {
    /// What it is.
    pub(crate) kind: Kind,
    /// Where it is; nothing for what belongs to the cluster, and for files.
    pub(crate) namespace: Option<String>,
    /// Its name, or its path.
    pub(crate) name: String,
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind.name(), self.name),
            None => write!(f, "{} {}", self.kind.name(), self.name),
        }
    }
}
