//! Recorded images as files that `docker load` reads, or as the digests a registry hands out.

use std::collections::BTreeMap;
use std::fmt::Write;

use backstay_part::{Exported, Recorded};
use backstay_repository::{ExportContent, ExportEntry};

use crate::archive::pieces;
use crate::pins::{Pin, Pins, override_of};
use crate::{Error, ImagesFacts};

const PRIVATE: u32 = 0o600;
const SCRIPT: &str = include_str!("export/restore.sh");

/// What an archive holds of the images of a project. Needs no engine.
pub fn export(recorded: &Recorded) -> Result<Exported, backstay_part::Error> {
    collect(recorded).map_err(|error| backstay_part::Error {
        part: recorded.record.name.clone(),
        action: "export",
        kind: error.kind(),
        source: Box::new(error),
    })
}

fn collect(recorded: &Recorded) -> Result<Exported, Error> {
    let facts: ImagesFacts = recorded.facts().map_err(Error::Token)?;
    let mut exported = Exported::default();
    // What each image is called once it is there, and by which names services ask for it.
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    let mut steps = String::new();
    let mut services = BTreeMap::new();
    for service in &facts.services {
        let Some(image) = facts.images.get(&service.image) else { continue };
        let name = service.keep_tag.as_str();
        let step = match (names.get(service.image.as_str()), &image.archive, image.registry.first()) {
            (Some(known), ..) => format!("tag {known} {name}"),
            (None, Some(archive), _) => {
                let file = format!("{}.tar", service.service);
                let content = ExportContent::Plain(pieces(&image.id, archive, &recorded.contents)?);
                exported.entries.push(ExportEntry { name: file.clone(), mode: PRIVATE, content });
                names.insert(&service.image, &archive.name);
                exported.notes.push(format!("{file}: the image of {}; `docker load` reads it", service.service));
                format!("load {file} {}", archive.name)
            }
            (None, None, Some(digest)) => {
                names.insert(&service.image, name);
                exported.notes.push(format!("{}: {digest}, from its registry", service.service));
                exported
                    .not_covered
                    .push(format!("the image of {}, which a registry holds: {digest}", service.service));
                format!("pull {digest} {name}")
            }
            (None, None, None) => {
                exported.not_covered.push(format!(
                    "the image of {}, {}, which only the engine that ran it held",
                    service.service, service.image
                ));
                continue;
            }
        };
        let _ = writeln!(steps, "{step}");
        let pin = Pin { id: image.id.clone(), tag: name.to_owned(), built: service.built, running: service.running };
        services.insert(service.service.clone(), pin);
    }
    let pins = Pins { run: facts.kept_for.clone(), project: facts.project.clone(), services };
    exported.notes.push(format!(
        "compose.override.yml: makes Compose run exactly these: docker compose -p {} -f … -f compose.override.yml up -d",
        facts.project
    ));
    exported.entries.push(ExportEntry::text("images", PRIVATE, steps));
    exported.entries.push(ExportEntry::text("compose.override.yml", PRIVATE, override_of(&pins)));
    exported.entries.push(ExportEntry::text("restore.sh", 0o755, SCRIPT));
    Ok(exported)
}
