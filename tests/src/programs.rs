//! Programs under test, built once and run as processes.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

static DIR: OnceLock<PathBuf> = OnceLock::new();

/// Folder of the programs: `SKYCACHE_BIN_DIR`, or that of the running one; built first if they are not up to date.
///
/// # Panics
/// If they cannot be built.
pub fn bin_dir() -> &'static Path {
    DIR.get_or_init(|| {
        if let Some(dir) = std::env::var_os("SKYCACHE_BIN_DIR") {
            return dir.into();
        }
        let own = std::env::current_exe().expect("own path");
        let mut dir = own.parent().expect("own folder").to_path_buf();
        if dir.ends_with("deps") {
            dir.pop();
        }
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--quiet", "-p", "skycache", "-p", "skycache-headend"]).current_dir(workspace);
        if dir.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().expect("cargo").success(), "the programs do not build");
        dir
    })
}

/// A command of one of our programs.
pub fn program(name: &str) -> Command {
    Command::new(bin_dir().join(name))
}

/// Output of a program that reads `input`.
///
/// # Panics
/// If it does not start, or does not read all of it.
pub fn fed(command: &mut Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("a program");
    child.stdin.take().expect("its input").write_all(input).expect("it reads");
    child.wait_with_output().expect("it ends")
}

/// Path of the installed program `name`; administrators' programs too, which are not in everybody's `PATH`.
pub fn find(name: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// The environment in which a program's clock begins at `date`, by Debian's libfaketime; monotonic time stays. Without it, it says
/// so, and the story is skipped.
pub fn clock_at(date: &str) -> Option<Vec<(String, String)>> {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let found = folders.map(|it| it.path().join("faketime/libfaketime.so.1")).find(|it| it.is_file());
    let Some(library) = found else {
        eprintln!("SKIPPED: libfaketime is not installed");
        return None;
    };
    let variables = [
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME", format!("@{date}")),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("NO_FAKE_STAT", "1".to_owned()),
        ("TZ", "UTC".to_owned()),
    ];
    Some(variables.map(|(name, value)| (name.to_owned(), value)).into())
}

/// Whether `name` is installed. A story that needs it says so and is skipped.
pub fn have(name: &str) -> bool {
    let there = find(name).is_some();
    if !there {
        eprintln!("SKIPPED: {name} is not installed");
    }
    there
}

/// Installs the npm packages that `package-lock.json` of `folder` names. Without Node or a registry it says that there are none
/// `of` what wants them, and the story is skipped.
pub fn have_npm_packages(folder: &Path, of: &str) -> bool {
    if !have("node") || !have("npm") {
        return false;
    }
    let mut install = Command::new("npm");
    install
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"])
        .current_dir(folder);
    let output = match install.output() {
        Ok(output) => output,
        Err(err) => {
            eprintln!("SKIPPED: npm in {} cannot be started for {of}: {err}", folder.display());
            return false;
        }
    };
    if !output.status.success() {
        eprintln!("SKIPPED: npm has no {of}: {}", String::from_utf8_lossy(&output.stderr));
    }
    output.status.success()
}

/// A Python that has the packages of `requirements.txt` in `folder`, installed below `target/tools` the first time. Without Python
/// or a registry it says so, and the story is skipped.
pub fn python_with_packages(folder: &Path) -> Option<PathBuf> {
    // Stories run beside each other.
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one = ONE.lock();
    if !have("python3") {
        return None;
    }
    let wanted = std::fs::read_to_string(folder.join("requirements.txt")).ok()?;
    let name = folder.file_name()?;
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools").join(name);
    let (python, done) = (tools.join("bin/python"), tools.join("installed.txt"));
    if std::fs::read_to_string(&done).is_ok_and(|have| have == wanted) {
        return Some(python);
    }
    let run = |command: &mut Command| {
        let output = command.output();
        let failed = output
            .as_ref()
            .map_or_else(ToString::to_string, |it| String::from_utf8_lossy(&it.stderr).into_owned());
        let is_done = output.is_ok_and(|it| it.status.success());
        if !is_done {
            eprintln!("SKIPPED: no Python packages: {}", failed.lines().last().unwrap_or_default());
        }
        is_done
    };
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
    let is_there = run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&tools))
        && run(Command::new(&python).args(pip).arg(folder.join("requirements.txt")));
    (is_there && std::fs::write(done, wanted).is_ok()).then_some(python)
}

/// A process that lives in the background, and ends with this value.
#[derive(Debug)]
pub struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts it with both outputs into the file `log`.
    ///
    /// # Errors
    /// The system's message.
    pub fn start(mut command: Command, log: &Path) -> io::Result<Self> {
        let out = File::create(log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        Ok(Self { child: command.spawn()?, log: log.to_path_buf() })
    }

    /// Its output so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Process number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name: `INT`, `TERM`, `HUP`, `KILL`.
    pub fn signal(&self, name: &str) {
        let number = self.child.id().to_string();
        let _ = Command::new("kill").arg(format!("-{name}")).arg(number).status();
    }

    /// Whether it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end; `None` if it continues for longer than `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + timeout;
        loop {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            if Instant::now() >= until {
                return None;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks it to end as a service manager does, and waits.
    ///
    /// # Panics
    /// If it does not end in 20 s, or not with success.
    pub fn stop(mut self) -> String {
        self.signal("TERM");
        let status = self.wait(Duration::from_secs(20));
        assert!(status.is_some_and(|status| status.success()), "{status:?}: {}", self.log());
        self.log()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
