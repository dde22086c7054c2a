#!/usr/bin/env python3
"""Runs the program of a systemd unit with the restrictions of that unit, where no systemd runs.

    unit.py --unit FILE [--socket FILE]... [--program FILE] [--file FROM=TO]... [--instance NAME] --probe COMMAND

The restrictions are read from the unit itself, so that a test follows it. In namespaces of mounts, network, IPC, processes and
host name: a root that is read-only but for the folders the unit names, a /dev of its own, no /home, /proc of processes alone;
then the unit's user without capabilities, no new privileges, its system calls and address families by seccomp. Sockets of the
socket units are opened first and handed over. PROBE runs outside of the sandbox in the same network, and decides.

Skipped: PrivateUsers, KeyringMode, ProtectHostname beside its namespace, and whatever BEYOND names; each is systemd's to
apply, and `cargo xtask tryout boot` has a real one. An unknown key is an error, so that a new restriction is noticed here.
Needs root, Linux 5.8, and systemd-analyze for the filter of system calls; without the latter it says so.
"""
import argparse, ctypes, os, re, shutil, signal, socket, struct, subprocess, sys, tempfile, time

BEYOND = {
    "Type", "ExecReload", "Sockets", "WatchdogSec", "Nice", "Restart", "RestartSec", "TimeoutStartSec", "TimeoutStopSec", "KillSignal",
    "UMask", "LimitNOFILE", "SecureBits", "ProtectClock", "ProtectControlGroups", "ProtectHostname", "ProtectKernelLogs",
    "ProtectKernelModules", "ProtectKernelTunables", "PrivateUsers", "DevicePolicy", "KeyringMode", "LockPersonality",
    "RemoveIPC", "RestrictRealtime", "RestrictSUIDSGID", "SystemCallArchitectures", "SystemCallErrorNumber",
}
USED = {
    "ExecStart", "User", "Group", "CacheDirectory", "RuntimeDirectory", "LogsDirectory", "StateDirectory", "WorkingDirectory",
    "CacheDirectoryMode", "RuntimeDirectoryMode", "LogsDirectoryMode", "StateDirectoryMode", "CapabilityBoundingSet",
    "AmbientCapabilities", "NoNewPrivileges", "ProtectSystem", "ProtectHome", "ProtectProc", "ProcSubset", "PrivateDevices",
    "PrivateTmp", "PrivateIPC", "MemoryDenyWriteExecute", "RestrictAddressFamilies", "RestrictNamespaces", "SystemCallFilter",
}
FOLDERS = {"CacheDirectory": "/var/cache", "RuntimeDirectory": "/run", "LogsDirectory": "/var/log", "StateDirectory": "/var/lib"}
UID = 61234
libc = ctypes.CDLL(None, use_errno=True)
NEW = {"mount": 0x20000, "uts": 0x4000000, "ipc": 0x8000000, "pid": 0x20000000, "net": 0x40000000}
RDONLY, NOSUID, NODEV, REMOUNT, BIND, REC, PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18


def section(path, name):
    """Keys of a section with all their values; an empty value takes back those before it."""
    found, inside = {}, False
    for line in open(path, encoding="utf-8"):
        line = line.strip()
        if line.startswith("["):
            inside = line == f"[{name}]"
        elif inside and line and line[0] not in "#;":
            key, value = (part.strip() for part in line.split("=", 1))
            if value:
                found.setdefault(key, []).append(value)
            else:
                found[key] = []
    return found


def checked(result, what):
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def mount(source, target, kind=None, flags=0, data=None):
    encode = lambda it: it.encode() if it else None
    checked(libc.mount(encode(source), encode(target), encode(kind), flags, encode(data)), f"mount {source} {target}")


def bind(source, target, read_only=True):
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        open(target, "a").close()
    mount(source, target, flags=BIND | REC)
    if read_only:
        mount(None, target, flags=REMOUNT | BIND | RDONLY | NOSUID)


def listeners(paths):
    """Sockets of socket units, a drop-in after its unit."""
    keys = {}
    for path in paths:
        for key, values in section(path, "Socket").items():
            keys[key] = values if keys.get(key) is None or values == [] else keys[key] + values
        text = open(path, encoding="utf-8").read()
        for key in ("ListenStream", "ListenDatagram"):
            if re.search(rf"^{key}=\s*$", text, re.M):
                keys[key] = section(path, "Socket").get(key, [])
    opened = []
    for key, kind in (("ListenStream", socket.SOCK_STREAM), ("ListenDatagram", socket.SOCK_DGRAM)):
        for address in keys.get(key, []):
            host, _, port = address.rpartition(":")
            one = socket.socket(socket.AF_INET if host else socket.AF_INET6, kind)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((host or "::", int(port)))
            if kind == socket.SOCK_STREAM:
                one.listen(64)
            opened.append(one)
    return opened


def network():
    """Loopback, and an interface eth1 with an address, towards nothing."""
    for command in (
        "ip link set lo up multicast on",
        "ip route add 224.0.0.0/4 dev lo",
        "ip link add eth1 type veth peer name far",
        "ip addr add 10.20.0.1/16 dev eth1",
        "ip link set far up",
        "ip link set eth1 up",
    ):
        subprocess.run(command.split(), check=True)


def root_of(unit, files, program, instance):
    """A root for the unit; returns it, its program and its folders that can be written."""
    root = tempfile.mkdtemp(prefix="unit-")
    mount("tmpfs", root, "tmpfs", NODEV, "mode=0755")
    at = lambda path: root + path
    bind("/usr", at("/usr"))
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        if os.path.islink("/" + name):
            os.symlink(os.readlink("/" + name), at("/" + name))
        elif os.path.isdir("/" + name):
            bind("/" + name, at("/" + name))
    os.makedirs(at("/etc"))
    for name in ("ssl", "ld.so.cache", "localtime", "resolv.conf", "nsswitch.conf"):
        if os.path.exists("/etc/" + name):
            bind(os.path.realpath("/etc/" + name), at("/etc/" + name))
    user = unit["User"][-1]
    open(at("/etc/passwd"), "w").write(f"root:x:0:0::/:/bin/false\n{user}:x:{UID}:{UID}::/:/bin/false\n")
    open(at("/etc/group"), "w").write(f"root:x:0:\n{user}:x:{UID}:\n")
    start = unit["ExecStart"][-1].replace("%i", instance).split()
    os.makedirs(at("/opt"))
    shutil.copy(program, at("/opt/program"))
    start[0] = "/opt/program"
    for pair in files:
        source, _, target = pair.partition("=")
        os.makedirs(os.path.dirname(at(target)), exist_ok=True)
        (shutil.copytree if os.path.isdir(source) else shutil.copy)(source, at(target))
        os.chown(at(target), 0, UID)
    os.makedirs(at("/dev"))
    mount("tmpfs", at("/dev"), "tmpfs", NOSUID, "mode=0755")
    for name in ("null", "zero", "full", "random", "urandom"):
        bind("/dev/" + name, at("/dev/" + name), read_only=False)
    os.makedirs(at("/tmp"))
    mount("tmpfs", at("/tmp"), "tmpfs", NOSUID | NODEV, "mode=1777")
    os.makedirs(at("/sys"))
    mount("sysfs", at("/sys"), "sysfs", RDONLY | NOSUID | NODEV)
    os.makedirs(at("/proc"))
    writable = []
    for key, parent in FOLDERS.items():
        for name in unit.get(key, []):
            path = f"{parent}/{name}"
            os.makedirs(at(path))
            mount("tmpfs", at(path), "tmpfs", NOSUID | NODEV, "size=1g,mode=0750")
            os.chown(at(path), UID, UID)
            writable.append(path)
    return root, start, writable


def names_of(group):
    """System calls of a group, groups in it resolved."""
    output = subprocess.run(["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True).stdout
    found = set()
    for line in output.splitlines()[1:]:
        line = line.strip()
        if line.startswith("@"):
            found |= names_of(line)
        elif line and not line.startswith("#"):
            found.add(line)
    return found


def seccomp(unit):
    """The filter as a program of classic BPF; none if this machine lacks what makes it."""
    header = f"/usr/include/{os.uname().machine}-linux-gnu/asm/unistd_64.h"
    if not shutil.which("systemd-analyze") or not os.path.exists(header) or os.uname().machine != "x86_64":
        print("unit.py: no filter of system calls: it needs systemd-analyze and headers on x86_64", file=sys.stderr)
        return None
    numbers = {name: int(number) for name, number in re.findall(r"#define __NR_(\w+)\s+(\d+)", open(header).read())}
    allowed = names_of("@default")
    for line in unit.get("SystemCallFilter", []):
        names = set()
        for word in line.lstrip("~").split():
            names |= names_of(word) if word.startswith("@") else {word}
        allowed = allowed - names if line.startswith("~") else allowed | names
    if unit.get("RestrictNamespaces", [""])[-1] == "yes":
        allowed -= {"unshare", "setns"}
    families = [getattr(socket, it) for line in unit.get("RestrictAddressFamilies", []) for it in line.split()]
    load, equal, give = 0x20, 0x15, 0x06
    allow, eperm, refuse = 0x7FFF0000, 0x00050000 | 1, 0x00050000 | 97
    code = [(load, 0, 0, 4), (equal, 1, 0, 0xC000003E), (give, 0, 0, eperm), (load, 0, 0, 0)]
    if families:
        code.append((equal, 0, 2 + 2 * len(families), numbers["socket"]))
        code.append((load, 0, 0, 16))
        for family in families:
            code += [(equal, 0, 1, int(family)), (give, 0, 0, allow)]
        code.append((give, 0, 0, refuse))
    for number in sorted(numbers[name] for name in allowed if name in numbers):
        code += [(equal, 0, 1, number), (give, 0, 0, allow)]
    code.append((give, 0, 0, eperm))
    return b"".join(struct.pack("HBBI", *it) for it in code), len(code)


def confine(unit, filter_program):
    """What the process of the unit may do."""
    prctl = lambda *arguments: libc.prctl(*[ctypes.c_ulong(it) for it in arguments])
    for capability in range(64):
        if prctl(24, capability, 0, 0, 0) != 0:  # PR_CAPBSET_DROP
            break
    os.setgroups([])
    os.setresgid(UID, UID, UID)
    os.setresuid(UID, UID, UID)
    os.umask(int(unit.get("UMask", ["0022"])[-1], 8))
    checked(prctl(38, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")
    if unit.get("MemoryDenyWriteExecute", [""])[-1] == "yes" and prctl(65, 1, 0, 0, 0) != 0:
        print("unit.py: this kernel has no PR_SET_MDWE", file=sys.stderr)
    if filter_program:
        code, length = filter_program
        buffer = ctypes.create_string_buffer(code)
        checked(libc.prctl(22, 2, ctypes.byref(Program(length, ctypes.addressof(buffer)))), "PR_SET_SECCOMP")


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--unit", required=True)
    parser.add_argument("--socket", action="append", default=[])
    parser.add_argument("--program", required=True)
    parser.add_argument("--file", action="append", default=[])
    parser.add_argument("--instance", default="")
    parser.add_argument("--probe", required=True)
    options = parser.parse_args()
    unit = section(options.unit, "Service")
    if unknown := set(unit) - USED - BEYOND:
        sys.exit(f"unit.py: {options.unit}: what is {', '.join(sorted(unknown))}?")
    filter_program = seccomp(unit)
    checked(libc.unshare(NEW["mount"] | NEW["net"] | NEW["ipc"] | NEW["uts"]), "unshare")
    mount(None, "/", flags=REC | PRIVATE)
    network()
    opened = listeners(options.socket)
    root, start, writable = root_of(unit, options.file, options.program, options.instance)
    checked(libc.unshare(NEW["pid"]), "unshare")
    service = os.fork()
    if service == 0:
        mount("proc", root + "/proc", "proc", NOSUID | NODEV, "hidepid=invisible,subset=pid")
        mount(None, root, flags=REMOUNT | BIND | RDONLY | NOSUID | NODEV)
        os.chroot(root)
        os.chdir(unit.get("WorkingDirectory", ["/"])[-1].replace("%S", "/var/lib"))
        # High first, so that none is overwritten.
        spare = [os.dup2(it.fileno(), 200 + number) for number, it in enumerate(opened)]
        for number, descriptor in enumerate(spare):
            os.dup2(descriptor, 3 + number, inheritable=True)
            os.close(descriptor)
        environment = {"PATH": "/usr/bin", "JOURNAL_STREAM": "1:1"}
        if opened:
            environment |= {"LISTEN_PID": "1", "LISTEN_FDS": str(len(opened))}
        confine(unit, filter_program)
        os.execve(start[0], start, environment)
    [it.close() for it in opened]
    time.sleep(0.2)
    if os.waitpid(service, os.WNOHANG)[0]:
        sys.exit("unit.py: the program ended at once")
    try:
        environment = os.environ | {"SERVICE": str(service)}
        failed = subprocess.run(["bash", "-euc", options.probe], env=environment, timeout=60).returncode
    except subprocess.TimeoutExpired as late:
        failed = late
    ended, _ = os.waitpid(service, os.WNOHANG)
    if ended:
        sys.exit(f"unit.py: the program ended before it was asked to; writable were {writable}")
    os.kill(service, signal.SIGINT if unit.get("KillSignal") == ["SIGINT"] else signal.SIGTERM)
    _, status = os.waitpid(service, 0)
    if failed:
        sys.exit(f"unit.py: the probe failed: {failed}")
    if status:
        sys.exit(f"unit.py: the program ended with {os.waitstatus_to_exitcode(status)}")
    print("unit.py: started, answered, ended")


main()
