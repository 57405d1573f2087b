//! The policies of the guide to S3, on a server that keeps to them: each of them is enough for its work, and for no
//! more.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use backstay_testkit::{Backstay, PrivateCluster, server_from, wait_until};

use crate::ground::Ground;
use crate::guides::{blocks, in_a_bucket, page};
use crate::shop_stack::free_port;

/// Makes the bucket, a user for each policy, and from then on keeps to the policies.
const SETS_UP: &str = r#"
import boto3, json, sys, urllib.request
endpoint, policies = sys.argv[1], json.load(sys.stdin)
at = dict(endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="root", aws_secret_access_key="root")
boto3.client("s3", **at).create_bucket(Bucket="acme-backups")
iam = boto3.client("iam", **at)
keys = {}
for user, documents in policies.items():
    iam.create_user(UserName=user)
    for number, document in enumerate(documents):
        iam.put_user_policy(UserName=user, PolicyName=f"policy{number}", PolicyDocument=document)
    key = iam.create_access_key(UserName=user)["AccessKey"]
    keys[user] = [key["AccessKeyId"], key["SecretAccessKey"]]
plain = {"Content-Type": "text/plain"}
urllib.request.urlopen(urllib.request.Request(f"{endpoint}/moto-api/reset-auth", b"0", plain, method="POST"))
print(json.dumps(keys))
"#;

/// An S3 server of the test's own, and how each of its users signs.
struct Guarded {
    server: Child,
    endpoint: String,
    keys: BTreeMap<String, (String, String)>,
}

impl Guarded {
    fn start(policies: &BTreeMap<&str, Vec<String>>) -> Option<Self> {
        let programs = PathBuf::from(server_from("BACKSTAY_MOTO_BIN", "the policies of the guide to S3")?);
        let port = free_port();
        let mut server = Command::new(programs.join("moto_server"));
        server.args(["-H", "127.0.0.1", "-p", &port.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
        let server = server.spawn().expect("moto starts");
        let mut guarded = Self { server, endpoint: format!("http://127.0.0.1:{port}"), keys: BTreeMap::new() };
        wait_until("moto answers", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        let mut setting_up = Command::new(programs.join("python"));
        setting_up.args(["-c", SETS_UP, &guarded.endpoint]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut setting_up = setting_up.spawn().expect("Python starts");
        let input = setting_up.stdin.take().expect("its input");
        serde_json::to_writer(input, policies).expect("the policies are sent");
        let output = setting_up.wait_with_output().expect("Python ends");
        assert!(output.status.success(), "the users are not made");
        guarded.keys = serde_json::from_slice(&output.stdout).expect("the keys of each user");
        Some(guarded)
    }

    /// The project as one of the users reaches it.
    fn of(&self, ground: &Ground<'_>, user: &str) -> Backstay {
        let (id, secret) = &self.keys[user];
        Backstay::in_folder(&ground.path(""))
            .with("BACKSTAY_STATE", ground.backstay.state())
            .with("AWS_ACCESS_KEY_ID", id)
            .with("AWS_SECRET_ACCESS_KEY", secret)
            .with("AWS_EC2_METADATA_DISABLED", "true")
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[test]
fn each_policy_of_the_guide_to_s3_is_enough_for_its_work_and_for_no_more() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let guide = page("s3.md");
    let policies = blocks(&guide, "json");
    let [writer, looker, pruner] = policies.as_slice() else { panic!("three policies: {policies:?}") };
    let users = BTreeMap::from([
        ("writer", vec![writer.clone()]),
        ("looker", vec![looker.clone()]),
        ("pruner", vec![writer.clone(), pruner.clone()]),
    ]);
    let Some(server) = Guarded::start(&users) else { return };
    let ground = Ground::bare(&cluster, "shop");
    let settings = in_a_bucket(&guide, &ground.path("shop.key"), &server.endpoint);
    ground.write("backstay.toml", &format!("{settings}[retention]\nkeep_last = 1\nkeep_within = \"0s\"\n"));
    let [writer, looker, pruner] = ["writer", "looker", "pruner"].map(|user| server.of(&ground, user));
    let listed = |who: &Backstay| {
        let list = who.run(&["list", "--json"]).ended(0).json();
        list["snapshots"].as_array().map_or(0, Vec::len)
    };

    let _ = looker.run(&["init"]).ended(3);
    let _ = writer.run(&["init"]).ended(0);
    let good = ground.state();
    for release in ["1", "2", "3"] {
        let _ = writer.run(&["snapshot", "--prove"]).ended(0);
        ground.write("config/release", release);
    }
    assert_eq!(listed(&looker), 3);
    let _ = looker.run(&["check"]).ended(0);
    let refused = looker.run(&["snapshot"]).ended(3);
    assert!(refused.stderr.contains("credentials do not give the right"), "{}", refused.stderr);
    assert_eq!(listed(&looker), 3);

    fs::remove_file(ground.path("config/release")).expect("back to the first release");
    ground.bad_release();
    let oldest =
        writer.run(&["list", "--json"]).ended(0).json()["snapshots"][2]["id"].as_str().unwrap_or_default().to_owned();
    let _ = writer.run(&["restore", &oldest, "--yes"]).ended(0);
    assert_eq!(ground.state(), good);
    let _ = writer.run(&["settle"]).ended(0);

    let before = listed(&looker);
    assert_ne!(writer.run(&["prune"]).code, Some(0), "a writer that could remove snapshots");
    assert_eq!(listed(&looker), before);
    let _ = looker.run(&["check"]).ended(0);
    let removed = pruner.run(&["prune", "--json"]).ended(0).json();
    assert!(listed(&looker) < before, "{removed}");
    let _ = looker.run(&["check"]).ended(0);
}
