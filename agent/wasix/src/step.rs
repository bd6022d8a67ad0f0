//! One page that sequences a step in its own process, from the arguments to the exit code.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use tokio::runtime::Builder;
use virtual_fs::FileSystem;
use warmstep_addresses::Names;
use warmstep_host::grants::{self, Grant, GrantError, Grants};
use warmstep_host::jail::{self, JailError, Network, Profile};
use warmstep_host::limits::{self, Budget, Limits, Memories};
use warmstep_host::plan::{self, Lent, PlanError};
use warmstep_host::{ending, load, signals};
use warmstep_image::ImageError;
use warmstep_image::load::LoadError;
use warmstep_wire::exit;
use warmstep_wire::plan::Plan;
use wasmer::sys::{EngineBuilder, NativeEngineExt};
use wasmer::{Engine, InstantiationError, Module};
use wasmer_wasix::bin_factory::spawn_exec_module;
use wasmer_wasix::capabilities::Capabilities;
use wasmer_wasix::runtime::task_manager::tokio::TokioTaskManager;
use wasmer_wasix::wasmer_wasix_types::wasi::Filetype;
use wasmer_wasix::{
    Runtime, SpawnError, WasiEnv, WasiEnvBuilder, WasiFs, WasiRuntimeError, WasiThreadError,
};

use crate::filesystem::Granted;
use crate::network;
use crate::reach::Reach;
use crate::runtime::{StepRuntime, end_trapped, low_byte};
use crate::stdio::Stream;

/// The most threads of a module at once. wasmer-wasix has a pool of 200: the next one would wait for
/// its turn in the middle of the call that starts it, which only ends if another one does.
const MOST_THREADS: usize = 180;

/// The port of name servers.
const DNS: u16 = 53;

/// Why a step ended without its module having said so.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Grant(#[from] GrantError),
    #[error(transparent)]
    Jail(#[from] JailError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error("cannot start the event loop: {0}")]
    EventLoop(#[from] std::io::Error),
    #[error("{0} is not UTF-8, and WASIX has no other text")]
    NotText(&'static str),
    #[error("cannot set up WASIX: {0}")]
    Environment(Box<WasiRuntimeError>),
    #[error("cannot instantiate the module: {0}")]
    Instantiate(Box<SpawnError>),
}

impl StepError {
    /// The exit code for it; see `warmstep_wire::exit`.
    fn code(&self) -> u8 {
        match self {
            Self::Grant(_) | Self::NotText(_) | Self::Instantiate(_) => exit::REFUSED,
            _ => exit::INTERNAL,
        }
    }
}

/// Runs the step that the arguments name, and ends the process.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ! {
    ending::started();
    // A fault of ours must not look like the module's, and its place is worth a line.
    std::panic::set_hook(Box::new(|fault| {
        ending::finish(exit::INTERNAL, Some(&format!("internal failure: {fault}")));
    }));
    match step(arguments) {
        Ok(code) => ending::finish(code, None),
        Err(error) => ending::finish(error.code(), Some(&error.to_string())),
    }
}

fn step(arguments: impl Iterator<Item = OsString>) -> Result<u8, StepError> {
    let lent = Lent::from_arguments(arguments)?;
    ending::prepare(lent.connection);
    signals::prepare();
    let plan = plan::read(lent.plan)?;
    let grants = grants::open(&plan)?;
    let reach = Reach::new(&plan.network);
    // Everything is open, and nothing of the module has been touched.
    let module = Some(lent.module.as_fd());
    let image = lent.image.as_ref().map(AsFd::as_fd);
    let files = files_of_the_host(&reach);
    let keep: Vec<_> =
        module.into_iter().chain(image).chain(files.iter().map(AsFd::as_fd)).collect();
    confine(&keep, &grants, &reach, plan.whole_jail == Some(true))?;
    // Closes what was open for the jail's rules alone.
    let Grants { preopens, rules } = grants;
    drop(rules);

    let mut engine: Engine = EngineBuilder::headless().engine().into();
    let limits = Limits::new(Budget::new(plan.memory), Memories::default());
    engine.set_tunables(load::with_image(limits, lent.image)?);
    let module = load::load(&engine, lent.module)?;
    let info = module.info();
    limits::tables_of_an_instance(info.tables.len() - info.num_imported_tables);

    let event_loop = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let _in_event_loop = event_loop.enter();
    let names = reach.has_names().then(Names::of_the_system);
    let tasks = Arc::new(TokioTaskManager::new(event_loop.handle().clone()));
    let runtime = StepRuntime::new(engine, network::of(reach, names), tasks);
    let runtime: Arc<dyn Runtime + Send + Sync> = Arc::new(runtime);
    let environment = environment(&plan, preopens, &runtime, event_loop.handle())?;
    ending::running();
    if plan.timeout > 0 {
        signals::end_after(plan.timeout);
    }
    execute(module, environment, &runtime, event_loop.handle())
}

/// What the jail has to leave to this process, and no module sees. In a static program the crate that
/// wasmer-wasix has its random numbers from does not find the system call, and reads the devices; and
/// names are resolved as the pod's files say.
fn files_of_the_host(reach: &Reach) -> Vec<OwnedFd> {
    let open = |path| rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok();
    let random = ["/dev/random", "/dev/urandom"];
    let names = reach.has_names().then_some(["/etc/resolv.conf", "/etc/hosts"]);
    random.into_iter().chain(names.into_iter().flatten()).filter_map(open).collect()
}

/// Enters the jail: with sockets only where an address is granted.
fn confine(
    lent: &[BorrowedFd<'_>],
    grants: &Grants,
    reach: &Reach,
    whole: bool,
) -> Result<(), JailError> {
    let mut ports = reach.ports();
    // A name server's answer that does not fit into a datagram comes over TCP.
    ports.extend(reach.has_names().then_some(DNS));
    let network = if reach.is_empty() { Network::None } else { Network::Connect(&ports) };
    jail::confine(lent, grants, network, Profile::Wasix, whole)
}

/// Everything that the module can reach.
fn environment(
    plan: &Plan,
    grants: Vec<Grant>,
    runtime: &Arc<dyn Runtime + Send + Sync>,
    event_loop: &tokio::runtime::Handle,
) -> Result<WasiEnv, StepError> {
    let failed = |error| StepError::Environment(Box::new(error));
    let text = |bytes: &[u8], what| match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(StepError::NotText(what)),
    };
    let mut arguments = plan.arguments.iter().map(|argument| text(argument, "an argument"));
    let name = arguments.next().transpose()?.unwrap_or_default();
    let mut builder = WasiEnvBuilder::new(name);
    for argument in arguments {
        builder.add_arg(argument?);
    }
    for variable in &plan.environment {
        let name = text(&variable.name, "the name of an environment variable")?;
        builder.add_env(name, &**variable.value);
    }
    for grant in &grants {
        text(&grant.name, "the name of a directory")?;
    }
    builder.set_runtime(Arc::clone(runtime));
    let files: Arc<dyn FileSystem + Send + Sync> = Arc::new(Granted::new(grants));
    builder.set_fs(files);
    builder.add_preopen_dir("/").map_err(|error| failed(error.into()))?;
    builder.set_disable_default_builtins(true);
    *builder.capabilities_mut() = capabilities();
    let [stdin, stdout, stderr] = Stream::all(event_loop);
    let kinds = [stdin.kind(), stdout.kind(), stderr.kind()];
    builder.set_stdin(Box::new(stdin));
    builder.set_stdout(Box::new(stdout));
    builder.set_stderr(Box::new(stderr));
    builder = builder.setup_fs(Box::new(move |_, files| {
        tell_kinds(files, kinds);
        Ok(())
    }));
    builder.build().map_err(failed)
}

/// wasmer-wasix takes all three streams for terminals; `fd_fdstat_get` still says so.
fn tell_kinds(files: &WasiFs, kinds: [Filetype; 3]) {
    for (number, kind) in (0..).zip(kinds) {
        if let Ok(inode) = files.get_fd_inode(number)
            && let Ok(mut stat) = inode.stat.write()
        {
            stat.st_filetype = kind;
        }
    }
}

fn capabilities() -> Capabilities {
    let mut capabilities = Capabilities::new();
    capabilities.threading.max_threads = Some(MOST_THREADS);
    capabilities
}

/// Runs the module to its end, and gives its exit code.
fn execute(
    module: Module,
    environment: WasiEnv,
    runtime: &Arc<dyn Runtime + Send + Sync>,
    event_loop: &tokio::runtime::Handle,
) -> Result<u8, StepError> {
    let mut main = spawn_exec_module(module, environment, runtime).map_err(not_started)?;
    match event_loop.block_on(main.wait_finished()) {
        Ok(code) => Ok(low_byte(code)),
        // What is not an exit code has ended the process in the runtime; this is for the rest.
        Err(error) => match &*error {
            WasiRuntimeError::Runtime(error) => end_trapped(error),
            other => ending::finish(exit::INTERNAL, Some(&other.to_string())),
        },
    }
}

/// Why a module could not be started, or the trap of its start function.
fn not_started(error: SpawnError) -> StepError {
    if let SpawnError::Other(error) = &error
        && let Some(WasiThreadError::InstanceCreateFailed(error)) = error.downcast_ref()
        && let InstantiationError::Start(error) = &**error
    {
        end_trapped(error);
    }
    StepError::Instantiate(Box::new(error))
}
