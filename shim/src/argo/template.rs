//! What of Argo's template matters here (`pkg/apis/workflow/v1alpha1`, version 4.0.5). Everything
//! else in it is skipped.

use serde::Deserialize;

/// The container of a step that is not a container set.
pub(crate) const MAIN: &str = "main";

/// A template, as Argo's executor writes it for the step's containers.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Template {
    inputs: Option<Inputs>,
    outputs: Option<Outputs>,
    container: Option<Container>,
    script: Option<Container>,
    container_set: Option<ContainerSet>,
    sidecars: Option<Vec<Container>>,
    init_containers: Option<Vec<Container>>,
}

#[derive(Debug, Default, Deserialize)]
struct Inputs {
    artifacts: Option<Vec<Artifact>>,
}

#[derive(Debug, Default, Deserialize)]
struct Outputs {
    artifacts: Option<Vec<Artifact>>,
    parameters: Option<Vec<Parameter>>,
}

#[derive(Debug, Deserialize)]
struct Artifact {
    path: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parameter {
    value_from: Option<ValueFrom>,
}

#[derive(Debug, Deserialize)]
struct ValueFrom {
    path: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ContainerSet {
    containers: Option<Vec<Container>>,
}

/// A container, or a script, which is one with its source.
#[derive(Debug, Deserialize)]
pub(crate) struct Container {
    name: Option<String>,
    env: Option<Vec<Variable>>,
    resources: Option<Resources>,
    source: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Variable {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Resources {
    limits: Option<Limits>,
}

#[derive(Debug, Deserialize)]
struct Limits {
    memory: Option<String>,
}

/// One of a template's containers.
#[derive(Debug)]
pub(crate) struct Chosen<'t> {
    /// What the template says of it.
    pub(crate) container: &'t Container,
    /// Whether it does the step's work, so that the inputs and outputs are its own.
    pub(crate) is_step: bool,
    /// Whether it has a script.
    pub(crate) has_script: bool,
}

impl Template {
    /// The container of this name.
    pub(crate) fn choose(&self, name: &str) -> Option<Chosen<'_>> {
        let step = |container, has_script| Chosen { container, is_step: true, has_script };
        let is_named = |container: &&Container| container.name.as_deref() == Some(name);
        if let Some(script) = self.script.as_ref().filter(|_| name == MAIN) {
            let has_script = script.source.as_ref().is_some_and(|source| !source.is_empty());
            return Some(step(script, has_script));
        }
        if let Some(container) = self.container.as_ref().filter(|_| name == MAIN) {
            return Some(step(container, false));
        }
        let set = self.container_set.as_ref().and_then(|set| set.containers.as_ref());
        if let Some(container) = set.into_iter().flatten().find(is_named) {
            return Some(step(container, false));
        }
        let beside = [&self.sidecars, &self.init_containers].into_iter().flatten().flatten();
        let container = beside.into_iter().find(is_named)?;
        Some(Chosen { container, is_step: false, has_script: false })
    }

    /// The paths of all input artifacts.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = &str> {
        let artifacts = self.inputs.iter().filter_map(|inputs| inputs.artifacts.as_ref());
        artifacts.flatten().filter_map(|artifact| given(&artifact.path))
    }

    /// The paths of all output artifacts and parameters.
    pub(crate) fn outputs(&self) -> impl Iterator<Item = &str> {
        let artifacts = self.outputs.iter().filter_map(|outputs| outputs.artifacts.as_ref());
        let parameters = self.outputs.iter().filter_map(|outputs| outputs.parameters.as_ref());
        let artifacts = artifacts.flatten().filter_map(|artifact| given(&artifact.path));
        let parameters = parameters.flatten().filter_map(|parameter| parameter.value_from.as_ref());
        artifacts.chain(parameters.filter_map(|from| given(&from.path)))
    }
}

/// Go leaves out, or leaves empty, what is not there.
fn given(path: &Option<String>) -> Option<&str> {
    path.as_deref().filter(|path| !path.is_empty())
}

impl Container {
    /// The names of the variables that it declares.
    pub(crate) fn variables(&self) -> impl Iterator<Item = &str> {
        self.env.iter().flatten().map(|variable| &*variable.name)
    }

    /// Its memory limit as it is written.
    pub(crate) fn memory(&self) -> Option<&str> {
        self.resources.as_ref()?.limits.as_ref()?.memory.as_deref()
    }
}
