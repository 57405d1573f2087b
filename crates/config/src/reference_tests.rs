use std::fs;

use super::*;

fn resolve(reference: &str, folder: &Path) -> Result<String, Error> {
    let variable = |name: &str| match name {
        "KEY" => Some("from the environment".to_owned()),
        "BLANK" => Some(String::new()),
        _ => None,
    };
    let surroundings = Surroundings { folder, variable: &variable };
    reference.parse::<Reference>().unwrap().resolve("repository.key", surroundings).map(|secret| secret.to_string())
}

#[test]
fn every_kind_of_reference_gives_its_secret() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(".env"), "export PASSWORD='p#w'\n").unwrap();
    fs::write(folder.path().join("key"), "whole\nfile\r\n").unwrap();
    assert_eq!(resolve("env:KEY", folder.path()).unwrap(), "from the environment");
    assert_eq!(resolve("file:key", folder.path()).unwrap(), "whole\nfile");
    assert_eq!(resolve("file:.env#PASSWORD", folder.path()).unwrap(), "p#w");
    let absolute = format!("file:{}", folder.path().join("key").display());
    assert_eq!(resolve(&absolute, Path::new("/nowhere")).unwrap(), "whole\nfile");
}

#[test]
fn a_key_file_is_read_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("key"), b"\xff\x00\n").unwrap();
    let surroundings = Surroundings { folder: folder.path(), variable: &|_| None };
    let reference: Reference = "file:key".parse().unwrap();
    assert_eq!(reference.resolve_bytes("repository.key", surroundings).unwrap().as_slice(), b"\xff\x00\n");
    assert!(matches!(reference.resolve("repository.key", surroundings), Err(Error::SecretNotText { .. })));
}

#[test]
fn what_cannot_be_resolved_says_which_setting_and_why() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(".env"), "TOKEN=hunter2\nbroken 'hunter2\n").unwrap();
    fs::write(folder.path().join("good.env"), "TOKEN=hunter2\n").unwrap();
    fs::write(folder.path().join("empty"), "\n").unwrap();
    fs::write(folder.path().join("large"), vec![b'x'; (SECRET_BYTES_MAX + 1) as usize]).unwrap();
    for (reference, wanted) in [
        ("env:ABSENT", "`repository.key` refers to the environment variable ABSENT, which is not set"),
        ("env:BLANK", "`repository.key` refers to env:BLANK, which is empty"),
        ("file:absent", "cannot be read"),
        ("file:empty", "which is empty"),
        ("file:large", "larger than a secret can be"),
        ("file:.env#TOKEN", "not written as an env file: line 2"),
        ("file:good.env#OTHER", "which has no such entry"),
    ] {
        let text = resolve(reference, folder.path()).unwrap_err().to_string();
        assert!(text.contains(wanted), "{reference}: {text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn literals_are_refused_without_being_repeated() {
    for text in ["hunter2", "postgres://u:hunter2@h/d", "env:", "env:A B", "file:", "file:x#", "file:~/hunter2"] {
        let refusal = text.parse::<Reference>().unwrap_err();
        assert!(!refusal.contains("hunter2"), "{text}");
    }
}

#[test]
fn an_address_may_be_in_clear_only_without_a_password() {
    for text in ["postgres://backstay@db/shop", "postgres:///shop?host=/run/postgresql", "rediss://cache:6379"] {
        assert_eq!(text.parse::<Address>().unwrap(), Address::Plain(text.to_owned()));
    }
    assert!(matches!("file:.env#URL".parse::<Address>().unwrap(), Address::Reference(Reference::Entry { .. })));
    for text in [
        "postgres://u:hunter2@h/d",
        "postgres://u:hun/ter2@h/d",
        "postgres://h/d?password=hunter2",
        "postgres://h/d?PASSWORD=hunter2",
        "host=h password=hunter2",
        "hunter2",
    ] {
        assert!(!text.parse::<Address>().unwrap_err().contains("hunter2"), "{text}");
    }
}
