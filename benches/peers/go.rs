//! Builds the peers from their Go modules, once for each version.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use tokio::{process::Command, time::timeout};

use crate::{
    log_tail,
    product::{GoProgram, Product},
};

const BUILD_TIME_MAX: Duration = Duration::from_secs(45 * 60);

/// The program of `product`, built below `dir` unless it is there; modules are fetched to a folder that is removed again.
///
/// # Errors
/// If there is no Go, or it cannot get or build that version.
pub(crate) async fn program(product: Product, dir: &Path) -> anyhow::Result<PathBuf> {
    let Some(program) = product.go_program() else { bail!("{} is not a Go program", product.name()) };
    let folder = dir.join(format!("{}-{}", program.name, program.version));
    let built = folder.join(program.name);
    if !built.exists() {
        eprintln!("peers: building {} {}, once; this takes minutes", product.name(), program.version);
        fs::create_dir_all(&folder)?;
        let modules = tempfile::Builder::new().prefix("modules-").tempdir_in(dir)?;
        install(&program, modules.path(), &folder).await?;
        ensure!(built.exists(), "go install did not leave {}", built.display());
    }
    Ok(built)
}

/// The same as a release would be: with the C parts that the program has if there is a C compiler, and its profile.
async fn install(program: &GoProgram, modules: &Path, folder: &Path) -> anyhow::Result<()> {
    let log = folder.join("build.log");
    let output = fs::File::create(&log)?;
    let mut command = Command::new("go");
    command.args(["install", "-tags", program.tags]).arg(format!("{}@{}", program.package, program.version));
    command.current_dir(folder);
    // Writable, so that the folder can be removed.
    command.env("GOPATH", modules).env("GOBIN", folder).env("GOFLAGS", "-mod=mod -modcacherw");
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).kill_on_drop(true);
    let mut child = command.spawn().context("Go cannot be started; install it and put it on PATH")?;
    let status =
        timeout(BUILD_TIME_MAX, child.wait()).await.with_context(|| format!("not built in {BUILD_TIME_MAX:?}"));
    ensure!(status??.success(), "go install failed:\n{}", log_tail(&log));
    Ok(())
}
