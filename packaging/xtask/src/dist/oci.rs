//! Writer of OCI images: a layout in a tar archive for `podman load`, `skopeo copy oci-archive:` and registries' tools, with one
//! image for each processor behind one index. Built without a container daemon.

use carousel::digest::Digest;
use serde_json::{Value, json};

use super::Release;
use super::target::Target;
use super::tree::{Tree, gzip};

pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    Digest::of(bytes).to_hex()
}

/// Writes `skycache-VERSION.oci.tar`.
pub(crate) fn write(release: &Release, images: &[(Target, Tree)]) -> Result<(), String> {
    let mut layout = Tree::default();
    let mut manifests = Vec::new();
    for (target, tree) in images {
        let (architecture, variant) = target.cpu.oci();
        let archive = tree.to_tar("", release.epoch_s);
        let diff = format!("sha256:{}", sha256_hex(&archive));
        let layer = blob(&mut layout, "application/vnd.oci.image.layer.v1.tar+gzip", &gzip(&archive));
        let config = config(release, architecture, variant, &diff);
        let config =
            blob(&mut layout, "application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": [layer], "annotations": annotations(release),
        });
        let mut manifest =
            blob(&mut layout, "application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
        manifest["platform"] = json!({ "os": "linux", "architecture": architecture });
        if let Some(variant) = variant {
            manifest["platform"]["variant"] = json!(variant);
        }
        manifests.push(manifest);
    }
    // One index for all processors, and the layout's own that names it.
    let index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests,
    });
    let mut index =
        blob(&mut layout, "application/vnd.oci.image.index.v1+json", index.to_string().as_bytes());
    index["annotations"] = json!({ "org.opencontainers.image.ref.name": release.version });
    let top = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [index],
    });
    layout.add_file("index.json", 0o644, top.to_string());
    layout.add_file("oci-layout", 0o644, r#"{"imageLayoutVersion":"1.0.0"}"#);
    release.write(&format!("skycache-{}.oci.tar", release.version), &layout.to_tar("", release.epoch_s))
}

/// Adds bytes under their digest; gives the descriptor that names them.
fn blob(layout: &mut Tree, media_type: &str, bytes: &[u8]) -> Value {
    let digest = sha256_hex(bytes);
    layout.add_file(&format!("blobs/sha256/{digest}"), 0o644, bytes);
    json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len() })
}

fn annotations(release: &Release) -> Value {
    json!({
        "org.opencontainers.image.title": "skycache",
        "org.opencontainers.image.version": release.version,
        "org.opencontainers.image.licenses": super::package::LICENSE,
        "org.opencontainers.image.source": super::package::HOMEPAGE,
    })
}

fn config(release: &Release, architecture: &str, variant: Option<&str>, diff: &str) -> Value {
    let created = release.created();
    let mut config = json!({
        "created": created, "architecture": architecture, "os": "linux",
        "config": {
            "User": "65532:65532",
            "Entrypoint": ["/usr/bin/skycached"],
            "Cmd": ["run", "-c", "/etc/skycache/skycached.toml"],
            "ExposedPorts": { "8080/tcp": {}, "8443/tcp": {} },
            "Volumes": { "/var/cache/skycache": {} },
            "WorkingDir": "/",
            "StopSignal": "SIGTERM",
            "Labels": annotations(release),
        },
        "rootfs": { "type": "layers", "diff_ids": [diff] },
        "history": [{ "created": created, "created_by": "cargo xtask dist oci" }],
    });
    if let Some(variant) = variant {
        config["variant"] = json!(variant);
    }
    config
}
