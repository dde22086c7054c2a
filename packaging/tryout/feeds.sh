#!/bin/sh
# .ipk and .apk by their formats, and by opkg and apk where they are on the PATH (or named by OPKG and APK).
#
# feeds.sh PACKAGES WORK
set -eu
packages=$1 work=$2
die() { echo "feeds: $*" >&2; exit 1; }
for ipk in "$packages"/openwrt/*.ipk "$packages"/oe/*.ipk; do
    rm -rf "$work/ipk"; mkdir -p "$work/ipk/control" "$work/ipk/data"
    [ "$(tar -tzf "$ipk" | head -1)" = ./debian-binary ] || die "$ipk: debian-binary is not first"
    tar -xzf "$ipk" -C "$work/ipk"
    [ "$(cat "$work/ipk/debian-binary")" = 2.0 ] || die "$ipk: not version 2.0"
    tar -xzf "$work/ipk/control.tar.gz" -C "$work/ipk/control"
    tar -xzf "$work/ipk/data.tar.gz" -C "$work/ipk/data"
    arch=$(sed -n 's/^Architecture: //p' "$work/ipk/control/control")
    case $(basename "$ipk" .ipk) in *_"$arch") ;; *) die "$ipk: says it is for $arch" ;; esac
    for script in "$work"/ipk/control/p*; do sh -n "$script" || die "$ipk: $(basename "$script")"; done
    [ -x "$work/ipk/data/usr/bin/skycached" ] || die "$ipk: no program"
    while read -r file; do [ -e "$work/ipk/data$file" ] || die "$ipk: no $file"; done <"$work/ipk/control/conffiles"
    tar -tvzf "$work/ipk/data.tar.gz" | grep -v ' root/root ' && die "$ipk: files that are not root's"
done
echo "   $(ls "$packages"/openwrt/*.ipk "$packages"/oe/*.ipk | wc -l) .ipk are what they say"
opkg=${OPKG:-$(command -v opkg || true)}
if [ -n "$opkg" ]; then
    root=$work/opkg; rm -rf "$root"; mkdir -p "$root/etc/opkg" "$root/usr/lib/opkg" "$root/tmp"
    printf 'arch all 1\narch x86_64 10\n' >"$work/opkg.conf"
    IPKG_NO_SCRIPT=1 "$opkg" -f "$work/opkg.conf" -o "$root" --force-depends install "$packages"/openwrt/*_x86_64.ipk
    [ -x "$root/usr/bin/skycached" ] || die "opkg installs nothing"
    IPKG_NO_SCRIPT=1 "$opkg" -f "$work/opkg.conf" -o "$root" remove skycache
    [ ! -e "$root/usr/bin/skycached" ] || die "opkg removes nothing"
    echo "   opkg installs and removes it"
else
    echo "   no opkg on this machine: not tried with it"
fi
apk=${APK:-$(command -v apk || true)}
if [ -n "$apk" ]; then
    for file in "$packages"/openwrt/*.apk; do "$apk" --allow-untrusted verify "$file" >"$work/apk.txt" 2>&1 || { cat "$work/apk.txt"; die "$file"; }; done
    root=$work/apk; rm -rf "$root"; mkdir -p "$root"
    "$apk" adbdump "$packages"/openwrt/*_x86_64.apk | sed -n '1,14p' | sed 's/^/   | /'
    "$apk" --root "$root" --arch x86_64 --initdb --allow-untrusted --no-network --no-scripts add "$packages"/openwrt/*_x86_64.apk
    "$root/usr/bin/skycached" --version
    "$apk" --root "$root" --no-network --no-scripts audit --system --full 2>/dev/null | grep skycached && die "what is installed is not what was packed"
    "$apk" --root "$root" --no-network --no-scripts del skycache
    [ ! -e "$root/usr/bin/skycached" ] || die "apk removes nothing"
    "$apk" mkndx --allow-untrusted -o "$work/packages.adb" "$packages"/openwrt/*_x86_64.apk
    echo "   apk verifies all of them, installs, audits, removes and indexes one"
else
    echo "   no apk on this machine: not tried with it"
fi
image=$(ls "$packages"/skycache-*.oci.tar)
rm -rf "$work/oci"; mkdir -p "$work/oci"
tar -xf "$image" -C "$work/oci"
python3 - "$work/oci" <<'PY'
import gzip, hashlib, io, json, sys, tarfile
root = sys.argv[1]
def blob(descriptor):
    data = open(f"{root}/blobs/{descriptor['digest'].replace(':', '/')}", "rb").read()
    assert len(data) == descriptor["size"] and hashlib.sha256(data).hexdigest() == descriptor["digest"][7:], descriptor
    return data
assert json.load(open(f"{root}/oci-layout"))["imageLayoutVersion"] == "1.0.0"
[index] = json.load(open(f"{root}/index.json"))["manifests"]
for entry in json.loads(blob(index))["manifests"]:
    manifest = json.loads(blob(entry))
    config = json.loads(blob(manifest["config"]))
    [layer] = manifest["layers"]
    tar = gzip.decompress(blob(layer))
    assert "sha256:" + hashlib.sha256(tar).hexdigest() == config["rootfs"]["diff_ids"][0]
    names = tarfile.open(fileobj=io.BytesIO(tar)).getnames()
    assert "usr/bin/skycached" in names and config["config"]["User"] == "65532:65532"
    print("   image for", entry["platform"], f"{len(tar)} bytes")
PY
