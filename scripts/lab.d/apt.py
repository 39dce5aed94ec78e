"""Packages through apt: from the machine's own sources, and from another suite of its mirror.

What a suite needs of its own (lists, cache, the line that names it) lies in the lab's cache; the
machine's sources, lists and preferences are neither changed nor used for it. apt checks the
signature of every list, and every package against its list.
"""

import functools
import os
import pathlib
import re
import subprocess

from common import (LabError, Unavailable, cache_dir, locked, need_tool, progress, run_tool, say,
                    scratch_dir, write_atomic)

KEYRING_PACKAGE = "debian-archive-keyring"
KEYRING_FOLDER = pathlib.Path("/usr/share/keyrings")
KEY_ERRORS = re.compile(r"NO_PUBKEY|is not signed|not signed by|EXPKEYSIG|BADSIG|invalid signature"
                        r"|signatures (were|couldn't)", re.I)
ABSENT = re.compile(r"does not have a Release file|404 +Not Found")

# Read behind the machine's own configuration, so that proxies and passwords stay as they are.
CONFIG = """\
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State::lists "{folder}/lists";
Dir::State::status "/dev/null";
Dir::Cache "{folder}/cache";
Acquire::Languages "none";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
APT::Get::AllowUnauthenticated "false";
APT::Update::Error-Mode "any";
Acquire::Retries "1";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"""


def _keyring(folder):
    """The keyring of Debian's archive in a folder; the newer package gave it a newer name."""
    names = [f"{KEYRING_PACKAGE}.{end}" for end in ("gpg", "pgp")]
    return next((folder / n for n in names if (folder / n).is_file()), folder / names[0])


def _reason(text):
    """What apt gave as the reason, without its prefix."""
    lines = [line for line in text.splitlines() if line.startswith(("E:", "W:"))]
    lines = [line for line in lines if "Some index files" not in line] or lines
    return lines[0][2:].strip().split("  ")[-1] if lines else "apt gave no reason"


class Machine:
    """The machine's own sources, as they are."""

    name = "the machine's own sources"
    suite = ""
    options = ()
    error = LabError
    again = "run apt-get update"

    def run(self, tool, *arguments, **how):
        need_tool(tool, "apt")
        return subprocess.run([tool, *self.options, *arguments], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, check=False,
                              env=dict(os.environ, LC_ALL="C"), **how)

    def update(self):
        """Nothing: apt-get update of the machine is not the lab's to run."""

    def _unknown(self, package):
        return LabError(f"apt does not know {package}: run apt-get update, and look at "
                        "apt's sources")

    def stale(self, kernel):
        """What brings lists and cache in step again."""
        return f"{self.again} and scripts/lab fetch {kernel}"

    def depends(self, package, pattern):
        """The packages matching a pattern that a package depends on."""
        done = self.run("apt-cache", "depends", "--important", package)
        return re.findall(rf"^\s*(?:Pre)?Depends:\s+({pattern})$", done.stdout, re.M)

    def resolve(self, metapackage, pattern):
        """The package that a metapackage stands for today."""
        found = self.depends(metapackage, pattern)
        if not found:
            raise self._unknown(metapackage)
        return found[0]

    def candidate(self, package):
        """The version that apt would install."""
        done = self.run("apt-cache", "policy", package)
        match = re.search(r"^\s*Candidate:\s*(\S+)", done.stdout, re.M)
        if not match or match.group(1) == "(none)":
            raise self._unknown(package)
        return match.group(1)

    def versions(self, package):
        """Every version that can be downloaded, the newest first."""
        done = self.run("apt-cache", "madison", package)
        return [line.split("|")[1].strip() for line in done.stdout.splitlines()
                if line.count("|") >= 2]

    def at_least(self, package, version):
        """
        The version itself or the next one that is carried. Headers ask for their build tools
        so (linux-kbuild-6.1 (>= V)), and while an update is published in parts, the tools in
        the archive are newer than the newest signed kernel.
        """
        carried = self.versions(package)
        if version in carried:
            return version
        newer = [v for v in carried if subprocess.run(
            ["dpkg", "--compare-versions", v, "gt", version], check=False).returncode == 0]
        return newer[-1] if newer else version

    def names(self, prefix):
        """The packages whose names begin so."""
        return self.run("apt-cache", "pkgnames", prefix).stdout.split()

    def download(self, package, folder):
        """Download a package, and check it against the signed lists. Returns the file."""
        progress(f"downloading {package}")
        done = self.run("apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", package,
                        cwd=folder)
        name = package.partition("=")[0]
        files = sorted(pathlib.Path(folder).glob(f"{name}_*.deb"))
        if done.returncode != 0 or len(files) != 1:
            raise self.error(f"cannot download {package}: {self.again} with a network and try "
                             f"again ({_reason(done.stderr)})")
        return files[0]


MACHINE = Machine()


def _mirrors():
    """The addresses of the machine's Debian mirrors, as apt itself has them."""
    done = MACHINE.run("apt-get", "indextargets", "--format",
                       "$(REPO_URI)\t$(RELEASE)\t$(ORIGIN)\t$(LABEL)", "Created-By: Packages")
    codename = ""
    for line in pathlib.Path("/etc/os-release").read_text().splitlines():
        if line.startswith("VERSION_CODENAME="):
            codename = line.partition("=")[2].strip('"')
    found = []
    for line in done.stdout.splitlines():
        uri, release, origin, label = (line.split("\t") + [""] * 3)[:4]
        # Without lists, apt knows no origin; with them, others may use Debian's codename too.
        debian = (origin, label) == ("Debian", "Debian") if origin else release == codename
        if debian and uri not in found:
            found.append(uri)
    return found


class Suite(Machine):
    """Another suite of the machine's mirror."""

    error = Unavailable
    again = "run scripts/lab fetch"

    def __init__(self, suite):
        self.suite = self.name = suite
        self.folder = cache_dir("apt", suite)
        self.config = self.folder / "apt.conf"
        self.options = ("-c", str(self.config))
        for sub in ("lists/partial", "cache/archives/partial"):
            (self.folder / sub).mkdir(parents=True, exist_ok=True)
        write_atomic(self.config, CONFIG.format(folder=self.folder))

    def update(self):
        """Bring the suite's lists up to date, from the first mirror that carries it."""
        mirrors = _mirrors()
        if not mirrors:
            raise Unavailable("apt's sources name no Debian mirror, so nothing says where "
                              f"{self.suite} is: add one")
        failures = []
        with locked(f"apt-{self.suite}"):
            for uri in mirrors:
                progress(f"reading the lists of {self.suite}")
                text = self._update_from(uri, _keyring(KEYRING_FOLDER))
                if text and KEY_ERRORS.search(text):
                    text = self._update_from(uri, self._newer_keyring())
                if not text:
                    return
                if KEY_ERRORS.search(text):
                    raise LabError(f"the signature of {self.suite} cannot be verified "
                                   f"({_reason(text)}): bring {KEYRING_PACKAGE} up to date")
                failures.append(text)
        text = failures[0]
        if ABSENT.search(text):
            raise Unavailable(f"this machine's mirror does not carry {self.suite}: use another "
                              "mirror or another --kernel")
        raise Unavailable(f"the lists of {self.suite} cannot be read from this machine's mirror "
                          f"({_reason(text)}): try again with a network")

    def _update_from(self, uri, keyring):
        """What apt complained of; empty when all went well."""
        if not keyring.is_file():
            return f"E: NO_PUBKEY: there is no {keyring}"
        write_atomic(self.folder / "sources.list",
                     f"deb [arch=amd64 signed-by={keyring}] {uri} {self.suite} main\n")
        done = self.run("apt-get", "-q", "-o", "APT::Sandbox::User=root", "update")
        return done.stderr if done.returncode else ""

    def _newer_keyring(self):
        """The keyring of the machine's own suite: newer, perhaps, than the one installed."""
        say(f"this machine's {KEYRING_PACKAGE} does not verify {self.suite}: trying the newest in "
            f"{MACHINE.name}")
        with scratch_dir(self.folder) as scratch:
            deb = MACHINE.download(KEYRING_PACKAGE, scratch)
            run_tool([need_tool("dpkg-deb", "dpkg"), "-x", deb, scratch / "root"],
                     f"unpacking {deb.name}")
            new = _keyring(scratch / "root" / KEYRING_FOLDER.relative_to("/"))
            path = self.folder / new.name
            write_atomic(path, new.read_bytes())
        return path

    def _unknown(self, package):
        return Unavailable(f"{self.suite} of this machine's mirror has no {package}")

    def stale(self, kernel):
        return f"run scripts/lab fetch {kernel}"


@functools.cache
def sources(suite):
    """Where the packages of a suite come from; "" is the machine's own sources."""
    return Suite(suite) if suite else MACHINE
