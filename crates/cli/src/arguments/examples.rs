//! Examples under each command's help: lines of at most 80 columns, because help is not folded by meaning.

pub const ALL: &str = r#"Examples:
  backstay                               how things stand, and the next command
  backstay init                          make a repository, a key, backstay.toml
  backstay snapshot --prove              record the release, prove it restores
  backstay guard -- ./deploy.sh          deploy with a way back
  backstay restore before-deploy --plan  what taking it back would do
  backstay restore 20251022_153000       take the release back to that moment
  backstay undo                          take the last restore back

Exit codes: 0 done · 2 usage · 3 configuration · 10 refused, nothing changed
  11 failed, nothing changed · 12 taken back · 13 a person is needed
  20 damaged · 21 unhealthy · 22 somebody else is at work · 23 stale"#;

pub const INIT: &str = r#"Examples:
  backstay init                                    a folder on this host
  backstay init --repository s3://acme/shop        a bucket
  backstay init --recovery-file /root/shop.phrase  and a phrase to be printed"#;

pub const DOCTOR: &str = r#"Examples:
  backstay doctor         read the lines that are not marked ok
  backstay doctor --json  for monitoring: exit 23 says stale or not ready"#;

pub const SNAPSHOT: &str = r#"Examples:
  backstay snapshot --prove                    record it, and see it restore
  backstay snapshot --label release=1.4 --pin  name it, and keep it
  backstay snapshot --skip-if-unchanged        for schedules"#;

pub const LIST: &str = r#"Examples:
  backstay list                      of this environment
  backstay list --label release=1.4  only those
  backstay list --json               for scripts"#;

pub const DIFF: &str = r#"Examples:
  backstay diff before-deploy                    what changed since the deploy
  backstay diff 20251022_153000 20251023_091500  between two snapshots"#;

pub const CHECK: &str = r#"Examples:
  backstay check                everything that is stored
  backstay check --sample 5     a share of it, every night
  backstay check --without-key  on a host that only keeps the bytes"#;

pub const PROVE: &str = r#"Examples:
  backstay prove latest      restore it into scratch and compare
  backstay prove --stale 7d  all whose last proof is older"#;

pub const MIGRATE: &str = r#"Examples:
  backstay migrate plan           what a run would do, and what it locks
  backstay migrate run --dry-run  for real, on a copy of the newest snapshot
  backstay migrate run            all pending files, in one transaction
  backstay migrate down           the newest one back"#;

pub const RESTORE: &str = r#"Examples:
  backstay restore before-deploy --plan                 look first
  backstay restore before-deploy                        asks, then does it
  backstay restore latest --only images,files           no row goes back
  backstay restore 20251022_153000 --yes --max-loss 10  in a script"#;

pub const UNDO: &str = r#"Examples:
  backstay undo        what ran before the last restore runs again
  backstay undo --yes  in a script; undoing that is `backstay undo` again"#;

pub const RECOVER: &str = r#"Examples:
  backstay recover                       end what died, in old or in new
  backstay recover 20251022_153000_4f2a  a certain run"#;

pub const SETTLE: &str = r#"Examples:
  backstay settle            capture what is kept, then drop it
  backstay settle --discard  drop it without capturing it"#;

pub const RESCUE: &str = r#"Examples:
  backstay rescue ./rows  rows that a restore took away, as COPY files"#;

pub const PRUNE: &str = r#"Examples:
  backstay prune --dry-run  what would go, and why the rest stays
  backstay prune            on a schedule"#;

pub const EXPORT: &str = r#"Examples:
  backstay export latest                                  into this folder
  backstay export 20251022_153000 --output shop.tar.gz    into a new file
  backstay export latest -o - | ssh vault 'cat >shop.tgz' anywhere else"#;

pub const PIN: &str = r#"Examples:
  backstay pin latest --why "before the big migration""#;

pub const HEALTH: &str = r#"Examples:
  backstay health                       one look
  backstay health --wait --timeout 120  until it is healthy
  backstay health --junit health.xml    for a pipeline's test report"#;

pub const GUARD: &str = r#"Examples:
  backstay guard -- ./deploy.sh           takes back what goes wrong
  backstay guard --fence -- ./deploy.sh   writers stop first: no row is lost
  backstay guard --json -- ./deploy.sh    for a pipeline"#;

pub const KEY: &str = r#"Examples:
  backstay key list
  backstay key add --passphrase                    asked for at the terminal
  backstay key add --recovery-file ./shop.phrase   to be printed and locked away"#;

pub const COMPLETIONS: &str = r#"Examples:
  backstay completions bash >/etc/bash_completion.d/backstay
  backstay completions zsh >~/.zfunc/_backstay"#;
