//! `headend keygen`: makes, renews and revokes keys ([`crate::signing`]).

use serde_json::json;

use super::{pretty, print};
use crate::cli::Keygen;
use crate::clock::{Clocks as _, SystemClocks};
use crate::signing::{self, GeneratedKeys, Request};

/// Makes keys or a revocation list, and says what to do with them.
pub(super) fn keygen(arguments: Keygen) -> Result<(), String> {
    let Keygen { out, root, rotate, revoke, days, services, json } = arguments;
    let request = Request { out, root, rotate, revoke, days, services };
    let made = signing::keygen(&request, SystemClocks::new().wall())?;
    let GeneratedKeys { root, certificate, revocations, files } = &made;
    let files = files.iter().map(|it| it.display().to_string()).collect::<Vec<_>>();
    if json {
        return print(&pretty(&json!({
            "schema": 1,
            "root": { "id": root.id().to_string(), "key": root.to_string() },
            "online": certificate.as_ref().map(|it| json!({
                "id": it.key.id().to_string(), "serial": it.serial, "epoch": it.epoch,
                "from": signing::at(it.from).to_xml(), "until": signing::at(it.until).to_xml(),
                "services": it.services,
            })),
            "revocations": revocations.as_ref().map(|it| json!({
                "number": it.number, "revoked": it.revoked.iter().map(ToString::to_string).collect::<Vec<_>>(),
            })),
            "files": files,
        })));
    }
    let mut text = String::new();
    for file in files {
        text += &format!("{file}\n");
    }
    if let Some(list) = revocations {
        text += &format!(
            "revoked: {} online keys; the list goes out with every signed document\n",
            list.revoked.len()
        );
        if certificate.is_none() {
            text += "if the key was stolen, run `headend keygen --rotate` as well: only a new epoch overcomes the versions it signed\n";
        }
    }
    if let Some(certificate) = certificate {
        text +=
            &format!("online key {}: [signing] keys of headend.toml is this folder\n", certificate.key.id());
        text += &format!(
            "root key {}: keep root.key offline; receivers pin\n[trust]\nkeys = [\"{root}\"]\n",
            root.id()
        );
    }
    print(&text)
}
