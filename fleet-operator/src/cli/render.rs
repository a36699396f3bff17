//! `render`: what an event would put where, or ClusterProfiles do, and what that would change.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use fleet_core::cluster::ClusterId;
use fleet_core::engine::Meaning;
use fleet_core::resource::Resources;
use fleet_core::source::Delivery;
use fleet_core::work::AppliedWork;
use fleet_kube::connection::ClusterDefinition;
use fleet_kube::definitions::{Definitions, Fault};

use super::terminal::{Colour, error, note};
use super::{Failure, KeptArgs, print, table};
use crate::control::{CallError, Question, call};
use crate::folder::Folder;
use crate::render::{self, Comparison, Told};
use crate::run::{
    DataFolder, LiveClusters, StoreKind, definitions_of_management, open_to_read, resources_of_management,
    with_management,
};
use crate::show::applied_of;

#[derive(Debug, Args)]
pub(super) struct RenderArgs {
    /// The file that holds the event, a CloudEvent in JSON or YAML; `-` is stdin. Without one it is told what ClusterProfiles
    /// put into each cluster.
    #[arg(long, value_name = "FILE")]
    event: Option<PathBuf>,
    /// A folder or a file of manifests, as `run` takes them; `-` is stdin. Without it, definitions come from the
    /// management cluster.
    path: Option<PathBuf>,
    /// The EventSource that the event comes from; may be left out if there is only one.
    #[arg(long, value_name = "NAME", requires = "event")]
    source: Option<String>,
    /// The cluster that the event comes from, in place of what the EventSource's `origin` says.
    #[arg(long, value_name = "NAMESPACE/NAME", requires = "event")]
    origin: Option<ClusterId>,
    /// The subject of the message that brings it, which templates see as `message.subject`.
    #[arg(long, value_name = "SUBJECT", requires = "event")]
    subject: Option<String>,
    /// Compare with what is in the clusters, as `kubectl diff` does. Nothing is written.
    #[arg(long)]
    diff: bool,
    /// Whether the differences are coloured.
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    color: Colour,
    #[command(flatten)]
    kept: KeptArgs,
}

/// Something could not be told, or would fail.
const TROUBLE: u8 = 2;

pub(super) async fn render(args: RenderArgs) -> ExitCode {
    match try_render(args).await {
        Ok(code) => ExitCode::from(code),
        Err(Failure(message)) => {
            error(&message);
            ExitCode::from(TROUBLE)
        }
    }
}

async fn try_render(args: RenderArgs) -> Result<u8, Failure> {
    let is_stdin = |path: &Option<PathBuf>| path.as_deref().is_some_and(|path| path.as_os_str() == "-");
    if is_stdin(&args.event) && is_stdin(&args.path) {
        return Err(Failure::new("only one of the event and the manifests can be read from stdin"));
    }
    let event = args.event.as_deref().map(|file| Ok((file, read(file)?))).transpose()?;
    let (definitions, management) = definitions(&args).await?;
    let mut code = 0;
    for problem in &definitions.problems {
        if problem.fault == Fault::MissingReference {
            note(&problem.to_string());
        } else {
            error(&problem.to_string());
            code = TROUBLE;
        }
    }
    let delivered = event.map(|(file, event)| delivered(&args, &definitions, file, &event)).transpose()?;
    let tell = |resources: Arc<Resources>| {
        let foresight = render::foresight(&definitions, management.as_ref(), resources);
        let Some((source, delivery)) = &delivered else { return Ok(foresight.always()) };
        let foretold = foresight.tell(source, delivery);
        foretold.ok_or_else(|| Failure::new(format!("there is no EventSource {source}")))
    };
    let mut foretold = tell(Arc::clone(&definitions.catalog.resources))?;
    let resources = render::resources(&foretold);
    if args.path.is_none() && !resources.is_empty() {
        let found = resources_of_management(resources).await.map_err(|error| Failure::because(&error))?;
        foretold = tell(Arc::new(found))?;
    }
    if !args.diff {
        let told = match (foretold.is_empty(), &delivered) {
            (false, _) => render::text(&foretold),
            (true, Some(_)) => Told::nothing("there is no EventTrigger among the definitions"),
            (true, None) => Told::nothing(
                "there is no ClusterProfile among the definitions; what an event would do is told with --event",
            ),
        };
        print(told.text.trim_end());
        return Ok(if told.faulty { TROUBLE } else { code });
    }
    let KeptArgs { data, operator_namespace, .. } = &args.kept;
    let all = with_management(&definitions.clusters, management.as_ref());
    let clusters =
        LiveClusters::connect(&all, &data.data, vec![operator_namespace.clone()]).map_err(|error| {
            Failure::new(format!("the data folder {} cannot be used: {error}", data.data.display()))
        })?;
    let find = |id: &ClusterId| {
        let definition = all.iter().find(|definition| definition.id == *id)?;
        Some(Arc::new(definition.cluster(true)))
    };
    let known = async |meaning: &Meaning| records(&args.kept, meaning).await;
    let Comparison { text, differs, faults, .. } =
        render::compare(&foretold, known, &clusters, find, args.color.is_wanted()).await;
    let text = text.into_text();
    if !text.is_empty() {
        print(text.trim_end());
    }
    for fault in &faults {
        error(fault);
    }
    let found = if !faults.is_empty() { TROUBLE } else { u8::from(differs) };
    Ok(code.max(found))
}

/// The event as if it were delivered, and from which EventSource.
fn delivered(
    args: &RenderArgs,
    definitions: &Definitions,
    file: &Path,
    event: &[u8],
) -> Result<(Arc<str>, Delivery), Failure> {
    let source = render::source(definitions, args.source.as_deref()).map_err(Failure::new)?;
    let delivery = render::delivery(event, args.origin.clone(), args.subject.clone().unwrap_or_default())
        .map_err(|why| Failure::new(format!("{}: {why}", file.display())))?;
    Ok((source, delivery))
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = if file.as_os_str() == "-" {
        std::io::stdin().read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_end(&mut bytes))
    };
    match read {
        Ok(_) => Ok(bytes),
        Err(error) => Err(Failure::new(format!("{} cannot be read: {error}", file.display()))),
    }
}

/// The definitions, and the management cluster if that is where they come from.
async fn definitions(args: &RenderArgs) -> Result<(Arc<Definitions>, Option<ClusterDefinition>), Failure> {
    let definitions = match args.path.as_deref() {
        None => {
            let KeptArgs { api, operator_namespace, .. } = &args.kept;
            let found = definitions_of_management(api.api.into(), operator_namespace).await;
            let (definitions, management) = found.map_err(|error| Failure::because(&error))?;
            return Ok((definitions, Some(management)));
        }
        Some(path) if path.as_os_str() == "-" => {
            let text = String::from_utf8(read(path)?).map_err(|_| Failure::new("stdin is not text"))?;
            Arc::new(Folder::look_at_text(Path::new("stdin"), text))
        }
        Some(path) => Arc::new(Folder::look(path)),
    };
    Ok((definitions, None))
}

/// What is recorded of a Work: by the operator that runs, or by the last one. Without any, marks tell what is ours.
async fn records(kept: &KeptArgs, meaning: &Meaning) -> Vec<AppliedWork> {
    let work = meaning.work.id.clone();
    match call(&kept.data.data, &Question::Applied { work: work.to_string() }).await {
        Ok(answer) => table::read(&answer.rows).unwrap_or_default(),
        Err(CallError::NobodyRuns) => {
            let folder = DataFolder::at(&kept.data.data);
            if kept.store.store == StoreKind::File && !folder.database().exists() {
                return Vec::new();
            }
            let Ok(store) = open_to_read(&folder, kept.store.store, &kept.operator_namespace).await else {
                note("what earlier events left cannot be read, so what would be removed is not shown");
                return Vec::new();
            };
            applied_of(&*store, &work).await.unwrap_or_default()
        }
        Err(error) => {
            note(&format!("what would be removed is not shown: {error}"));
            Vec::new()
        }
    }
}
