//! `headend catalog`: writes the announcement and DVB-I documents to files ([`crate::announce`],
//! [`crate::catalog`]).

use std::path::Path;

use carousel::dvbi::Edition;

use super::{Identity, open, pretty, print};
use crate::clock::{Clocks as _, SystemClocks};
use crate::config::Config;

/// Writes the announcement documents and the catalogue, whether or not the latter goes on the air.
pub(super) fn catalog(
    mut config: Config,
    out: &Path,
    edition: Option<Edition>,
    json: bool,
) -> Result<(), String> {
    let clocks = SystemClocks::new();
    config.catalog.edition = edition.unwrap_or(config.catalog.edition);
    config.dvb_i.get_or_insert_default();
    let broadcast = open(config, false, Identity::Stable, &clocks, &super::Preparation::default())?;
    let catalog = broadcast.catalog();
    let announced = broadcast.announcements(clocks.wall());
    let mut written = Vec::new();
    for document in announced.iter().chain(&catalog.documents).chain(&catalog.files) {
        let path = out.join(&document.file);
        let failed =
            |err: std::io::Error| format!("{}: {}", path.display(), carousel::config::without_numbers(&err));
        std::fs::create_dir_all(path.parent().unwrap_or(out)).map_err(failed)?;
        std::fs::write(&path, &document.bytes).map_err(failed)?;
        eprintln!("{}: {}", path.display(), document.uri);
        written.push(serde_json::json!({
            "file": document.file, "uri": document.uri, "content_type": document.content_type,
            "length": document.bytes.len(),
        }));
    }
    if json {
        let problems: Vec<String> = catalog.problems.iter().map(ToString::to_string).collect();
        print(&pretty(&serde_json::json!({
            "schema": 1, "documents": written, "problems": problems, "guide_faults": catalog.guide_faults,
        })))?;
    }
    match catalog.guide_faults {
        0 => Ok(()),
        faults => {
            Err(format!("{faults} parts of programme guides are missing: see above; the rest is written"))
        }
    }
}
