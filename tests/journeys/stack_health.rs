//! A stack on the real engine with a service that fails: what it said last is shown, and no secret with it.

use std::fs;
use std::process::{Command, Stdio};

use backstay_testkit::{Backstay, server_from};
use tempfile::TempDir;

const TOKEN: &str = "tok-5f3a9c";

struct Stack {
    folder: TempDir,
}

impl Stack {
    fn start(name: &str) -> Option<Self> {
        server_from("DOCKER_HOST", "a stack that fails")?;
        let registry = server_from("BACKSTAY_REGISTRY", "a stack that fails")?;
        let folder = TempDir::new().expect("a folder for the stack");
        let script = r#"n=0; while [ $$n -lt 70 ]; do echo "line $$n"; n=$$((n + 1)); done; echo "refused with $$API_TOKEN"; exit 3"#;
        let compose = format!(
            "name: {name}\nservices:\n  api:\n    image: {registry}/shop-db:latest\n    network_mode: none\n    \
             env_file: api.env\n    entrypoint: [\"sh\", \"-c\"]\n    command:\n      - '{script}'\n"
        );
        fs::write(folder.path().join("compose.yml"), compose).expect("the Compose file");
        fs::write(folder.path().join("api.env"), format!("API_TOKEN={TOKEN}\n")).expect("the env file");
        let stack = Self { folder };
        stack.docker(&["compose", "up", "-d"]);
        stack.docker(&["wait", &format!("{name}-api-1")]);
        Some(stack)
    }

    fn docker(&self, arguments: &[&str]) {
        let mut docker = Command::new("docker");
        docker.args(arguments).current_dir(self.folder.path()).stdout(Stdio::null());
        let output = docker.output().expect("docker runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.docker(&["compose", "down", "--volumes", "--timeout", "0"]);
    }
}

#[test]
fn a_service_that_fails_is_shown_with_what_it_said_last_and_without_its_secrets() {
    let Some(stack) = Stack::start(&format!("bsthealth{}", std::process::id())) else { return };
    let backstay = Backstay::in_folder(stack.folder.path());
    let toml = "project = \"stack\"\n[repository]\nurl = \"repository\"\nkey = \"file:key\"\n[compose]\nfiles = [\"compose.yml\"]\n";
    fs::write(stack.folder.path().join("backstay.toml"), toml).expect("backstay.toml");

    let seen = backstay.run(&["health", "--junit", "junit.xml", "--json"]).ended(21);
    let logs = seen.json()["logs"]["api"].as_array().expect("the lines of the service").clone();
    assert_eq!(logs.len(), 50);
    assert_eq!(logs[49], "refused with ***");
    let junit = fs::read_to_string(stack.folder.path().join("junit.xml")).expect("the JUnit file");
    assert!(junit.contains("<system-out>line 21\nline 22\n"), "{junit}");
    let read = backstay.run(&["health"]).ended(21);
    assert!(read.stdout.contains("api said last:\n  line 21\n"), "{}", read.stdout);
    for text in [&junit, &seen.stdout, &seen.stderr, &read.stdout, &read.stderr] {
        assert!(!text.contains(TOKEN), "{text}");
    }
}
