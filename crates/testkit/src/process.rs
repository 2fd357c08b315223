//! A child process with its output in a file, ended when the value is dropped.
//!
//! Output goes to a file and not through a pipe, so that a talkative child never blocks on a slow test. Signals are
//! sent by the shell's built-in `kill`: this crate has no unsafe code and needs no extra package.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running child process.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: PathBuf,
}

impl Process {
    /// Starts `command` with standard output and error in `output`.
    ///
    /// # Panics
    /// When the program cannot be started.
    #[must_use]
    pub fn start(name: &str, command: &mut Command, output: &Path) -> Self {
        let file = File::create(output).expect("the output file can be created");
        let second = file.try_clone().expect("a file handle can be cloned");
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(second)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {name} ({:?}): {e}", command.get_program()));
        Self {
            name: name.to_owned(),
            child,
            output: output.to_owned(),
        }
    }

    /// The name given at the start.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything written so far to standard output and standard error.
    #[must_use]
    pub fn output(&self) -> String {
        let bytes = std::fs::read(&self.output).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The exit code text when the process has ended by itself, with its last output.
    pub fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().expect("the child is ours to wait for")?;
        Some(format!("{} ended with {status}:\n{}", self.name, self.output()))
    }

    /// User and system CPU time consumed so far, from `/proc/PID/stat`.
    ///
    /// # Panics
    /// When the process is gone.
    #[must_use]
    pub fn cpu_time(&self) -> Duration {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).expect("the process lives");
        // The second field is the program's name in parentheses and may hold blanks; utime and stime are
        // fields 14 and 15, in clock ticks of 10 ms on every Linux.
        let (_, fields) = text.rsplit_once(')').expect("stat has a name in parentheses");
        let ticks: u64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|f| f.parse::<u64>().ok())
            .sum();
        Duration::from_millis(ticks * 10)
    }

    /// Resident memory in bytes, from `/proc/PID/statm`.
    ///
    /// # Panics
    /// When the process is gone.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/statm", self.id())).expect("the process lives");
        let pages: u64 = text
            .split(' ')
            .nth(1)
            .and_then(|f| f.parse().ok())
            .expect("statm has a second field");
        pages * 4096
    }

    /// Sends a signal by its name without `SIG`: `STOP`, `CONT`, `TERM`, `HUP`, `KILL`.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn signal(&self, name: &str) {
        let ok = Command::new("sh")
            .args(["-c", &format!("kill -{name} {}", self.id())])
            .status()
            .is_ok_and(|status| status.success());
        assert!(ok, "cannot send SIG{name} to {}", self.name);
    }

    /// Ends the process at once and waits for it.
    pub fn kill(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
