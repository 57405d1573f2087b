//! The pages for whoever begins on another machine, typed there: disaster recovery, and the archive that needs no
//! Backstay.

use std::fs;

use backstay_testkit::PrivateCluster;

use crate::ground::Ground;
use crate::guides::{Shell, blocks, owned_by_shop, page};

#[test]
fn a_lost_host_comes_back_from_its_repository_and_a_key_as_the_guide_is_typed() {
    let (Some(lost), Some(new)) = (PrivateCluster::start(), PrivateCluster::start()) else { return };
    let old = Ground::bare(&lost, "shop");
    owned_by_shop(&old);
    old.write(".env", &format!("DATABASE_URL={}\nRELEASE=1.0\n", lost.url_as("shop", "shop")));
    let _ = old.backstay.run(&["init", "--project", "shop"]).ended(0);
    old.snapshot();

    let host = Ground::bare(&new, "somewhere");
    let folder = host.path("srv/shop").display().to_string();
    for gone in [".env", "config/shop.conf"] {
        fs::remove_file(host.path(gone)).expect("a new host has nothing");
    }
    fs::copy(old.backstay.state().join("shop/key"), host.path("shop.key")).expect("a copy of the key");
    host.write("backstay", "the binary");
    let shell = Shell::new(&host).with("EDITOR", "carry-the-address-over");
    shell.stands_in("apt-get", "echo \"$*\"");
    shell.stands_in("runuser", "shift 3\nexec \"$@\"");
    shell.stands_in(
        "carry-the-address-over",
        "sed -i \"s|^DATABASE_URL=.*|$(grep ^DATABASE_URL= env.new)|\" \"$1\"\nrm env.new",
    );
    let pages = page("disaster-recovery.md");
    let key = host.path("root/shop.key").display().to_string();
    let here = |text: &str| {
        text.replace("/usr/local/bin/", &host.path("bin").display().to_string())
            .replace("/root/shop.key", &key)
            .replace("/srv/shop", &folder)
            .replace("shop:…@127.0.0.1/", &format!("shop:…@127.0.0.1:{}/", new.port()))
            .replace("images,files", "files")
            .replace("s3://acme-backups/shop", &old.repository().display().to_string())
    };
    fs::create_dir_all(host.path("root")).expect("the home of root");
    let typed: Vec<String> = blocks(&pages, "sh").iter().map(|block| here(block)).collect();
    assert_eq!(typed.len(), 6, "{typed:#?}");
    shell.ends(&format!("{}\n{}", typed[0], typed[1]), 0);
    fs::write(host.path("srv/shop/backstay.toml"), here(&blocks(&pages, "toml")[0])).expect("a short backstay.toml");
    let in_folder = |block: &str| format!("cd {folder}\n{block}");
    shell.ends(&in_folder(&typed[2]), 0);
    let plan = shell.run(&in_folder(&typed[3]));
    assert!(plan.text.contains("keys that differ: DATABASE_URL"), "{}", plan.text);
    shell.ends(&in_folder(&typed[4]), 0);
    shell.ends(&in_folder(&typed[5]), 0);
    assert_eq!(new.dump("shop"), lost.dump("shop"));
    let env = fs::read_to_string(host.path("srv/shop/.env")).expect(".env is back");
    assert!(env.contains("RELEASE=1.0") && env.contains(&format!(":{}/", new.port())), "{env}");
    assert!(host.path("srv/shop/config/shop.conf").exists());
}

#[test]
fn an_archive_leaves_and_comes_back_as_the_guide_to_export_is_typed() {
    let (Some(cluster), Some(elsewhere)) = (PrivateCluster::start(), PrivateCluster::start()) else { return };
    let ground = Ground::new(&cluster, "shop");
    ground.configure("[guard]\nsettle_window = \"1s\"");
    let _ = ground.backstay.run(&["guard", "--", "true"]).ended(0);
    let shell = Shell::new(&ground);
    shell.stands_in("ssh", "[ \"$1\" = vault ] && shift && exec sh -c \"cd vault && $*\"");
    fs::create_dir_all(ground.path("vault")).expect("a vault");
    fs::create_dir_all(ground.path("srv")).expect("where the files go");
    let typed = blocks(&page("export.md"), "sh");
    let id = ground.snapshots().pop().expect("a snapshot");
    shell.ends(&typed[0].replace("20261121_084715", &id), 0);
    assert!(ground.path("vault/shop.tar.gz").exists() && ground.path("shop.tar.gz").exists());

    let there = typed[1]
        .replace("shop-production-20261121_084715.tar.gz", "shop.tar.gz")
        .replace("shop-production-20261121_084715", "shop-*")
        .replace("db.example.com PGUSER=shop", &format!("127.0.0.1 PGUSER=postgres PGPORT={}", elsewhere.port()))
        .replace("/srv/", &format!("{}/", ground.path("srv").display()));
    shell.ends(&format!("cd vault\n{there}"), 0);
    for database in ["shop", "shop_old"] {
        assert_eq!(elsewhere.sql(database, "select count(*) from store.orders"), "200");
    }
    for folder in ["srv/new", "srv/files"] {
        assert!(ground.path(folder).join("config/shop.conf").exists(), "{folder}");
    }
}
