# SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
"""A prime number of mappings of a prime number of pages, in all layouts: counts to the last page.

Loading the programs takes longer than a client's whole life, so one trace watches all clients;
each case then looks at what that trace said of its own client.
"""

import dataclasses
import functools

import kit
from kit import DMACLIENT, case, equal, holds


@dataclasses.dataclass(frozen=True)
class Layout:
    name: str
    maps: int = 7
    pages: int = 1009
    got: int = 0            # pages of a mapping when the layout rounds
    options: tuple = ()

    @property
    def all_pages(self):
        return self.maps * (self.got or self.pages)


LAYOUTS = (
    Layout("anon"), Layout("contig"), Layout("scattered"), Layout("thp", maps=5, pages=1543, got=2048),
    Layout("huge2m", maps=3, got=1024), Layout("huge1g", maps=2, pages=262139, got=262144),
    Layout("shmem"), Layout("file"), Layout("file-private"), Layout("ro"),
    Layout("bar"), Layout("pfnmap"),
)
# every order is used with both numbers of threads by some layout
ORDERS = ("fifo", "lifo", "random", "all")
THREADS = (1, 3)


def options(layout):
    if layout.name == "bar":
        return ["--bar-bdf", kit.ivshmem()[0], "--bar-index", 2]
    if layout.name == "pfnmap":
        kit.load_pfnscatter(1024, "random")
    return []


def client(layout, threads, order):
    return kit.run([DMACLIENT, "--layout", layout.name, "--pages", layout.pages,
                    "--maps", layout.maps, "--threads", threads, "--unmap", order,
                    *options(layout)])


@kit.once
def traced():
    clients = {}
    with kit.trace("--json", "--ring-size", "16M") as tracing:
        for number, layout in enumerate(LAYOUTS):
            for threads in THREADS:
                order = ORDERS[(number + (threads > 1)) % len(ORDERS)]
                clients[layout.name, threads] = client(layout, threads, order)
        return clients, *kit.interrupt(tracing)


def one(layout, threads):
    clients, records, _, _ = traced()
    done = clients[layout.name, threads]
    kit.current.commands.append(done)
    equal("exit code of the client", done.code, 0)
    total = kit.total(done.account)
    equal("mappings in the account", total["maps"], layout.maps)
    equal("pages in the account", total["pages"], layout.all_pages)
    equal("unmapped pages in the account", total["unmapped_pages"], layout.all_pages)
    maps = kit.of_type(done.account, "map")
    if layout.name in ("scattered", "pfnmap"):
        # that is what the layout is for: hardly any two pages are neighbours
        holds("runs of frames", all(m["runs"] > 0.99 * m["pages"] for m in maps), maps)
    mine = [r for r in kit.of_type(records, "run", "mismatch", "stale", "raced", "unverified")
            if r["process"]["pid"] == total["pid"]]
    equal("records that are no match", [r for r in mine if r.get("verdict") != "match"], [])
    equal("pages seen", sum(r["pages"] for r in mine), layout.all_pages)
    equal("ranges seen", kit.pages_of(mine), kit.pages_of(maps))
    kit.note(f"{layout.all_pages} pages")


for _layout in LAYOUTS:
    for _threads in THREADS:
        case(f"layout-{_layout.name}-threads-{_threads}")(
            functools.partial(one, _layout, _threads))


@case("layouts-conclusion")
def layouts_conclusion():
    clients, _, last, code = traced()
    pages = sum(layout.all_pages for layout in LAYOUTS) * len(THREADS)
    equal("clients", len(clients), len(LAYOUTS) * len(THREADS))
    kit.proven(last, code, pages, unmapped=pages)
    kit.note(f"{pages} pages")


@case("layouts-check")
def layouts_check():
    """The same under check: no records, only counts; every page mapped in three cycles."""
    names = [layout.name for layout in LAYOUTS if not layout.name.startswith("huge1g")]
    kit.load_pfnscatter(1024, "reverse")
    checked = kit.check([DMACLIENT, "--layout", ",".join(names), "--pages", 251, "--maps", 3,
                         "--threads", 3, "--unmap", "random", "--repeat", 3])
    total = kit.total(checked.account)
    want = 3 * 3 * (251 * (len(names) - 2) + 2 * 512)      # thp and huge2m round up
    equal("pages in the account", total["pages"], want)
    kit.proven(checked.conclusion, checked.code, want, unmapped=want)
    linear = checked.conclusion["linear"]
    kit.note(f"{want} pages; the pre-5.7 formula would be wrong for {linear['would_be_wrong']} "
             f"of {linear['pfnmap_claims']} PFNMAP pages")


@case("layouts-in-place")
def layouts_in_place():
    """Mappings that begin inside a buffer, pages that nobody touched, no unmapping at all."""
    script = (f"{DMACLIENT} --layout anon,thp,shmem,ro --pages 257 --maps 3 --offset 20480 && "
              f"{DMACLIENT} --layout anon,shmem --pages 127 --no-touch --unmap none --fork")
    checked = kit.check(["sh", "-c", script])
    totals = kit.of_type(checked.account, "total")
    equal("pages in the accounts", [t["pages"] for t in totals], [3 * 3 * 257 + 3 * 512, 2 * 127])
    kit.proven(checked.conclusion, checked.code, 3 * 3 * 257 + 3 * 512 + 2 * 127)


@case("bar-huge")
def bar_huge():
    """A BAR under a huge leaf: since 6.15 one claim takes all of it; read under the lock."""
    pages, leaf = 1009, 512
    checked = kit.check([DMACLIENT, "--layout", "bar-huge", "--pages", pages,
                         "--bar-bdf", kit.ivshmem()[0], "--bar-index", 2], "--claims")
    equal("pages in the account", kit.total(checked.account)["pages"], pages)
    kit.proven(checked.conclusion, checked.code, pages, unmapped=pages)
    claims = checked.conclusion["claims"]
    equal("claimed pages read under the lock", claims["locked"], pages)
    if kit.KERNEL in ("6.1", "6.12"):
        equal("claims", claims["calls"], pages)
    else:
        equal("claims", claims["calls"], 1 + pages - leaf)
        equal("pages of the first", kit.of_type(checked.records, "claim")[0]["match"], leaf)
    kit.note(f"{claims['calls']} claims of {pages} pages")
