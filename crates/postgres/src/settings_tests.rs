use std::path::Path;

use super::*;

fn surroundings(variables: &[(&str, &str)], home: Option<&Path>) -> Surroundings {
    Surroundings {
        variables: variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        home: home.map(Path::to_owned),
        login: Some("me".to_owned()),
    }
}

fn password(settings: &Settings) -> Option<&str> {
    settings.password.as_ref().map(|password| password.as_str())
}

fn private_file(folder: &Path, name: &str, text: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

#[test]
fn a_url_says_everything_and_frameworks_may_add_to_it() {
    let url = "postgresql+asyncpg://sh%6fp:p%40ss%2Fw@db.example:6432/Shop%20DB?sslmode=require&schema=public";
    let settings = Settings::parse(url, &surroundings(&[("PGHOST", "elsewhere")], None)).unwrap();
    assert_eq!(settings.host(), &Host::Name("db.example".to_owned()));
    assert_eq!((settings.port(), settings.user(), settings.database()), (6432, "shop", "Shop DB"));
    assert_eq!(password(&settings), Some("p@ss/w"));
    assert_eq!(settings.ssl_mode, "require");
}

#[test]
fn passwords_of_any_characters_come_through_a_url_and_back() {
    let none = surroundings(&[], None);
    let odd = "p@s:s/%41 #w?&='\"\\$[]+é\u{1F511}";
    let mut parsed = Settings::parse("postgres://u@h:1/d", &none).unwrap();
    parsed.password = Some(Zeroizing::new(odd.to_owned()));
    (parsed.user, parsed.database) = ("u@:/?#%".to_owned(), "d@:/?#%&=".to_owned());
    for host in [Host::Name("h".to_owned()), Host::Name("::1".to_owned()), Host::Socket("/var/a b#c".into())] {
        let parsed = parsed.with_host(host, 5433);
        let again = Settings::parse(&parsed.to_url(), &none).unwrap();
        assert_eq!((again.host(), again.port()), (parsed.host(), 5433));
        assert_eq!((again.user(), again.database()), (parsed.user(), parsed.database()));
        assert_eq!(password(&again), Some(odd));
    }
    // What nobody escaped is read as libpq would.
    for raw in ["p#w", "p?w", "p@w", "p:w", "p?a=b#c"] {
        for more in ["", "/d", "/d?sslmode=require#x@y", "?dbname=d"] {
            let read = Settings::parse(&format!("postgres://u:{raw}@h:1{more}"), &none).unwrap();
            assert_eq!((read.server(), password(&read)), ("h:1".to_owned(), Some(raw)), "{raw} {more}");
        }
    }
    let error = Settings::parse("postgres://u:12/34@h/d", &none).unwrap_err();
    assert!(error.to_string().contains("%2F") && !error.to_string().contains("34"), "{error}");
}

#[test]
fn sockets_brackets_and_keywords_are_understood() {
    let none = surroundings(&[], None);
    for text in ["postgres://u@%2Fvar%2Frun/d", "postgres:///d?host=/var/run&user=u", "host=/var/run user=u dbname=d"] {
        let settings = Settings::parse(text, &none).unwrap();
        assert_eq!(settings.host(), &Host::Socket("/var/run".into()), "{text}");
        assert_eq!((settings.user(), settings.database()), ("u", "d"), "{text}");
    }
    let settings = Settings::parse("postgres://[::1]:5433", &none).unwrap();
    assert_eq!((settings.host(), settings.port()), (&Host::Name("::1".to_owned()), 5433));
    assert_eq!((settings.user(), settings.database()), ("me", "me"));
    let settings = Settings::parse(r"dbname = 'a b' user=o\'neil password='q\'\\'", &none).unwrap();
    assert_eq!((settings.database(), settings.user()), ("a b", "o'neil"));
    assert_eq!(password(&settings), Some(r"q'\"));
}

#[test]
fn the_string_comes_before_the_service_and_the_service_before_the_environment() {
    let home = tempfile::tempdir().unwrap();
    let file = "# ours\n[other]\nhost=x\n[shop]\nhost=from-service\nport=7777\n[later]\nport=1\n";
    private_file(home.path(), ".pg_service.conf", file);
    let around = surroundings(&[("PGSERVICE", "shop"), ("PGPORT", "1111"), ("PGDATABASE", "env")], Some(home.path()));
    let settings = Settings::parse("port=2222", &around).unwrap();
    assert_eq!((settings.server(), settings.database()), ("from-service:2222".to_owned(), "env"));
    assert_eq!(Settings::parse("", &around).unwrap().port(), 7777);
    assert!(matches!(Settings::parse("service=none", &around), Err(Error::Settings { subject: "service", .. })));
}

#[test]
fn a_password_comes_from_a_file_only_its_owner_can_read() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let text = "#db:*:*:*:comment\nother:5432:*:me:no\ndb:5432:sh\\:op:me:a\\\\b:c\n*:*:*:*:last\n";
    let path = private_file(home.path(), ".pgpass", text);
    let around = surroundings(&[], Some(home.path()));
    let parse = |text: &str| Settings::parse(text, &around);
    assert_eq!(password(&parse("host=db dbname=sh:op").unwrap()), Some("a\\b:c"));
    assert_eq!(password(&parse("host=db dbname=x").unwrap()), Some("last"));
    assert_eq!(password(&parse("host=db dbname=x password=own").unwrap()), Some("own"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(parse("host=db"), Err(Error::Settings { subject: "passfile", .. })));
}

#[test]
fn no_password_is_ever_shown() {
    let around = surroundings(&[("PGPASSWORD", "s3cret")], None);
    let settings = Settings::parse("postgres://u:s3cret@h/d", &around).unwrap();
    assert!(!format!("{settings:?} {settings} {around:?}").contains("s3cret"));
    let broken = ["postgres://u:s3cret%ZZ@h/d", "mysql://u:s3cret@h/d", "postgres://u:s3cret@[h/d", "password='s3cret"];
    for text in broken {
        let error = Settings::parse(text, &around).unwrap_err();
        assert!(!format!("{error:?} {error}").contains("s3cret"), "{error:?}");
    }
}

#[test]
fn the_environment_of_a_child_holds_the_password_and_its_arguments_never_need_it() {
    let settings = Settings::parse("postgres://u:pw@h:1/d?sslmode=verify-full", &surroundings(&[], None)).unwrap();
    let environment = settings.child_environment();
    let value = |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str());
    assert_eq!(value("PGPASSWORD"), Some("pw"));
    assert_eq!(value("PGSSLMODE"), Some("verify-full"));
    assert_eq!((value("PGHOST"), value("PGPORT"), value("PGDATABASE")), (Some("h"), Some("1"), Some("d")));
}
