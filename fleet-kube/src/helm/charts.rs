//! Charts: pulled once, then kept.
//!
//! What is pulled is kept by repository, credentials, name and version: nobody gets a chart that his own credentials do
//! not give. Its
//! version is what its Chart.yaml says, whatever range was asked for.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use fleet_core::apply::{ChartVersion, Outcome};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Map, json};
use sha2::{Digest, Sha256};

use super::program::{Program, Room, Run, Turns, Unrun};
use super::spec::{Release, hex};
use super::words::{Secrets, of_pull};

/// How long pulling a chart may take.
const PULLED_WITHIN: Duration = Duration::from_secs(120);
/// So many charts are kept; of more, those that were used longest ago go.
const MOST_KEPT: usize = 256;
/// A Chart.yaml further inside, or larger, is not looked for.
const LARGEST: u64 = 256 << 20;
const DIGITS: usize = 24;

/// The charts that were pulled.
#[derive(Default)]
pub(super) struct Charts {
    turns: Turns,
}

/// A chart, ready to be installed.
#[derive(Clone, Debug)]
pub(super) struct Chart {
    pub(super) file: PathBuf,
    pub(super) is: ChartVersion,
}

impl Chart {
    /// The hash as a label holds it.
    pub(super) fn label(&self) -> String {
        self.is.digest.trim_start_matches("sha256:").chars().take(2 * DIGITS).collect()
    }
}

impl Charts {
    /// The chart of a release; of the same version as before, where that is given.
    pub(super) async fn get(
        &self,
        program: &Program,
        release: &Release,
        same: Option<&str>,
    ) -> Result<Chart, Outcome> {
        let version = same.or(release.spec.exact_version());
        let named = named(release);
        let folder =
            program.subfolder("charts").map_err(|unrun| of_pull(unrun, &named, &Secrets::default()))?;
        let wanted = key(release, version.or(release.spec.chart_version.as_deref()).unwrap_or_default());
        // Whoever wants the same waits for the one that pulls it.
        let _turn = self.turns.take(&wanted).await;
        if let Some(version) = version
            && let Some(kept) = kept(&folder, &key(release, version))
        {
            return Ok(kept);
        }
        let secrets = secrets(release);
        let pulled =
            pull(program, release, version).await.map_err(|unrun| of_pull(unrun, &named, &secrets))?;
        let keep = || -> io::Result<Chart> {
            let (name, content) = pulled;
            let said = version_of(&content).ok_or_else(|| {
                io::Error::other(format!("{name} is no packaged chart: it has no Chart.yaml"))
            })?;
            let digest = format!("sha256:{}", hex(&Sha256::digest(&content), 32));
            forget_some(&folder);
            let file = folder.join(format!("{}.tgz", key(release, &said)));
            let part = file.with_extension("part");
            fs::write(&part, &content)?;
            fs::rename(&part, &file)?;
            Ok(Chart { file, is: ChartVersion { version: said.into(), digest: digest.into() } })
        };
        keep().map_err(|error| Outcome::Rejected { reason: format!("chart {named}: {error}") })
    }
}

/// A chart as errors name it.
pub(super) fn named(release: &Release) -> String {
    let spec = &release.spec;
    let version = spec.chart_version.as_deref().map(|version| format!(" {version}")).unwrap_or_default();
    format!("{}{version} from {}", spec.chart(), spec.repository_url)
}

fn secrets(release: &Release) -> Secrets {
    let credentials = &release.spec.credentials;
    let password = credentials.password.as_ref().map(|password| password.expose_secret().to_owned());
    Secrets::of(&Map::new(), password)
}

fn key(release: &Release, version: &str) -> String {
    let spec = &release.spec;
    let mut hasher = Sha256::new();
    for part in [&spec.repository_url, spec.chart(), version] {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    spec.credentials.hash(&mut hasher);
    hex(&hasher.finalize(), 20)
}

fn kept(folder: &Path, key: &str) -> Option<Chart> {
    let file = folder.join(format!("{key}.tgz"));
    let content = fs::read(&file).ok()?;
    let version = version_of(&content)?;
    // It was used just now.
    let _ =
        fs::File::options().append(true).open(&file).and_then(|file| file.set_modified(SystemTime::now()));
    let digest = format!("sha256:{}", hex(&Sha256::digest(&content), 32));
    Some(Chart { file, is: ChartVersion { version: version.into(), digest: digest.into() } })
}

fn forget_some(folder: &Path) {
    let Ok(files) = fs::read_dir(folder) else { return };
    let used = |entry: &fs::DirEntry| {
        entry.metadata().and_then(|it| it.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
    };
    let mut files: Vec<_> = files.flatten().map(|entry| (used(&entry), entry.path())).collect();
    files.sort_unstable();
    let more = (files.len() + 1).saturating_sub(MOST_KEPT);
    for (_, path) in files.iter().take(more) {
        let _ = fs::remove_file(path);
    }
}

/// Pulls a chart: its file's name and content.
async fn pull(
    program: &Program,
    release: &Release,
    version: Option<&str>,
) -> Result<(String, Vec<u8>), Unrun> {
    let spec = &release.spec;
    let room = Room::new(program)?;
    let ca = match &spec.credentials.ca {
        Some(ca) => Some(room.write("ca.crt", ca)?),
        None => None,
    };
    let to = room.path().join("chart");
    let mut args: Vec<OsString> = Vec::new();
    if spec.is_oci() {
        let url = format!("{}/{}", spec.repository_url.trim_end_matches('/'), spec.chart());
        args.extend(["pull".into(), url.into()]);
        args.extend(["--registry-config".into(), room.write("registry.json", &registry(release))?.into()]);
        if spec.credentials.plain_http {
            args.push("--plain-http".into());
        }
    } else {
        // A password on the command line would be seen by everybody on the machine.
        let config = room.write("repositories.yaml", &repositories(release, ca.as_deref()))?;
        let of_room = |args: &mut Vec<OsString>| {
            args.extend(["--repository-config".into(), (&config).into()]);
            args.extend(["--repository-cache".into(), room.path().join("repository").into()]);
        };
        let mut update: Vec<OsString> = vec!["repo".into(), "update".into(), REPOSITORY.into()];
        of_room(&mut update);
        let run = Run { args: update, room: &room, held: None, no_proxy: None, within: PULLED_WITHIN };
        program.run(run).await?;
        args.extend(["pull".into(), format!("{REPOSITORY}/{}", spec.chart()).into()]);
        of_room(&mut args);
    }
    if spec.credentials.insecure_skip_tls_verify {
        args.push("--insecure-skip-tls-verify".into());
    }
    if let Some(ca) = &ca {
        args.extend(["--ca-file".into(), ca.into()]);
    }
    args.extend(["--destination".into(), (&to).into()]);
    if let Some(version) = version.or(spec.chart_version.as_deref()) {
        args.extend([format!("--version={version}").into()]);
    }
    fs::create_dir(&to).map_err(|source| Unrun::Folder { path: to.clone(), source })?;
    program.run(Run { args, room: &room, held: None, no_proxy: None, within: PULLED_WITHIN }).await?;
    let read = || -> io::Result<(String, Vec<u8>)> {
        let file = fs::read_dir(&to)?
            .flatten()
            .find(|file| file.path().extension().is_some_and(|it| it == "tgz"))
            .ok_or_else(|| io::Error::other("helm has put no chart there"))?;
        Ok((file.file_name().to_string_lossy().into_owned(), fs::read(file.path())?))
    };
    read().map_err(|source| Unrun::Folder { path: to.clone(), source })
}

const REPOSITORY: &str = "fleet";

/// The one repository, as helm keeps its list of them.
fn repositories(release: &Release, ca: Option<&Path>) -> String {
    let spec = &release.spec;
    let password = spec.credentials.password.as_ref().map(|password| password.expose_secret());
    // JSON is YAML.
    json!({
        "apiVersion": "",
        "generated": "0001-01-01T00:00:00Z",
        "repositories": [{
            "name": REPOSITORY,
            "url": spec.repository_url,
            "username": spec.credentials.username.as_deref().unwrap_or_default(),
            "password": password.unwrap_or_default(),
            "caFile": ca.map(|ca| ca.display().to_string()).unwrap_or_default(),
            "certFile": "",
            "keyFile": "",
            "insecure_skip_tls_verify": spec.credentials.insecure_skip_tls_verify,
            "pass_credentials_all": false,
        }],
    })
    .to_string()
}

/// The credentials for a registry, as container tools keep them.
fn registry(release: &Release) -> String {
    let spec = &release.spec;
    let host = spec.repository_url.trim_start_matches("oci://").split('/').next().unwrap_or_default();
    let (Some(username), Some(password)) = (&spec.credentials.username, &spec.credentials.password) else {
        return json!({}).to_string();
    };
    let auth = STANDARD.encode(format!("{username}:{}", password.expose_secret()));
    json!({"auths": {host: {"auth": auth}}}).to_string()
}

#[derive(Deserialize)]
struct ChartYaml {
    version: String,
}

/// The version that a packaged chart says of itself: in the first file `NAME/Chart.yaml` of a tar.
fn version_of(packed: &[u8]) -> Option<String> {
    let mut tar = GzDecoder::new(packed).take(LARGEST);
    let mut header = [0_u8; 512];
    loop {
        tar.read_exact(&mut header).ok()?;
        let name = header.get(..100)?.split(|byte| *byte == 0).next()?;
        let size = std::str::from_utf8(header.get(124..136)?).ok()?;
        let size = u64::from_str_radix(size.trim_matches(|c: char| c == '\0' || c == ' '), 8).ok()?;
        let name = std::str::from_utf8(name).ok()?;
        if name.is_empty() {
            return None;
        }
        let is_chart = name.strip_suffix("/Chart.yaml").is_some_and(|folder| !folder.contains('/'));
        let padded = size.div_ceil(512).checked_mul(512)?;
        if is_chart {
            let mut text = String::new();
            (&mut tar).take(size).read_to_string(&mut text).ok()?;
            let document = fleet_core::yaml::documents(&text).into_iter().next()?.ok()?;
            return document.decode::<ChartYaml>().ok().map(|chart| chart.version);
        }
        io::copy(&mut (&mut tar).take(padded), &mut io::sink()).ok()?;
    }
}
