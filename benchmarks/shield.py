"""Measures what reaches the CMS when everybody comes at once: ``python -m benchmarks.shield``.

A stub of a CMS with 5 workers, each of which takes 50 ms for a question or a page, and 10,000 real
WebSocket clients that come at once. JSON to stdout. An exit code of 1 means that something did not
go as it must: a client was lost, the CMS was asked too much, or too much at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.herd import Herd, ask_bare, pages, watch_limit
from benchmarks.processes import LOAD_CORE, BenchmarkError, Child, prepare
from twisted_push.bench.report import machine
from twisted_push.bench.server import Server, running_server

WORKERS = 5
TAKES = 0.05
"""Seconds of a worker for a question or a page."""

PAGE_EVERY = 0.5
"""Seconds between two pages that somebody else fetches from the CMS."""

MARGIN = 1.2
"""By this factor it may take longer than the CMS needs by itself."""

BARE_FOR = 5.0
"""Seconds for which the CMS is asked without a server, before and after."""

_CALLBACK = """
[sites.default.callback]
url = "http://127.0.0.1:{port}/connect"
dialect = "connect"
max_concurrent = {most}
"""


@dataclass(frozen=True)
class Scale:
    """How much is done."""

    time_limit: int
    """Of everything, in seconds."""
    clients: int
    wavering: int
    """Clients of the CMS that wavers."""


SHORT = Scale(400, 1_000, 400)
FULL = Scale(1_800, 10_000, 2_000)


@dataclass
class Outcome:
    """What one part came to. Durations are in seconds."""

    part: str
    clients: int
    all_in: float
    least: float
    """What the CMS needs for these questions at the least: its workers have no pause."""
    floor: float | None
    """What it needed here and now if they were put without a server, as many at once as may be."""
    questions: int
    at_once: int
    cap: int
    limit: float | None
    """What the server itself took for enough at once, by the median over the seconds."""
    happened: dict[str, int]
    page_median: float | None
    page_p99: float | None
    server_cpu: float
    notes: dict[str, float] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def check(self, what: str, good: bool) -> None:
        """Note a fault unless it is as it must be."""
        if not good:
            self.faults.append(what)


@dataclass
class Bench:
    """A CMS, a server that asks it, and somebody who looks at pages."""

    cms: Child
    cms_port: int
    server: Server
    cap: int
    latencies: list[float] = field(default_factory=list)
    limits: list[float] = field(default_factory=list)

    async def tell(self, **settings: Any) -> dict[str, int]:
        """Change the CMS; give what happened there so far."""
        said = json.dumps(settings or None)
        told: dict[str, int] = await asyncio.to_thread(self.cms.ask, said)
        return told

    async def outcome(
        self, part: str, herd: Herd, all_in: float, before: dict[str, int], cpu: int
    ) -> Outcome:
        """Say what a part came to, since ``before``."""
        told = await self.tell()
        questions = told["questions"] - before["questions"]
        slow = sorted(self.latencies)
        return Outcome(
            part=part,
            clients=len(herd.times) if not herd.happened["lost"] else herd.inside,
            all_in=round(all_in, 2),
            least=round(questions * TAKES / WORKERS, 2),
            floor=None,
            questions=questions,
            at_once=told["most"],
            cap=self.cap,
            limit=statistics.median(self.limits) if self.limits else None,
            happened=dict(herd.happened),
            page_median=round(statistics.median(slow), 4) if slow else None,
            page_p99=round(slow[int(len(slow) * 0.99)], 4) if slow else None,
            server_cpu=round((self.server.cpu() - cpu) / 1e9, 2),
        )


@asynccontextmanager
async def bench(cap: int) -> AsyncIterator[Bench]:
    """Have a CMS and a server, and pages fetched from the CMS all the time."""
    with Child(["-m", "benchmarks.busy_cms"], LOAD_CORE) as cms:
        port = cms.listen()
        cms.ask(json.dumps({"workers": WORKERS, "takes": TAKES}))
        site = _CALLBACK.format(port=port, most=cap)
        limits = "max_commands_per_second = 0\n"
        with running_server(site=site, limits=limits) as server:
            one = Bench(cms, port, server, cap)
            loop = asyncio.get_running_loop()
            looking = [
                loop.create_task(pages(port, PAGE_EVERY, one.latencies)),
                loop.create_task(watch_limit(server.port, one.limits)),
            ]
            try:
                yield one
            finally:
                for task in looking:
                    task.cancel()
                    with suppress(asyncio.CancelledError, ExceptionGroup, OSError):
                        await task


def tokens(count: int, tabs: int = 1) -> list[str]:
    """Give a token for each of so many clients; so many tabs in a row have the same."""
    return [f"token-{number // tabs}" for number in range(count)]


async def _come(one: Bench, names: Sequence[str], *, impatient: bool, timeout: float) -> Any:
    herd = Herd(one.server.port, names, impatient=impatient)
    herd.come()
    return herd, await herd.all_in(timeout)


async def quiet(scale: Scale) -> Outcome:
    """Nobody comes: how long a page takes by itself."""
    async with bench(WORKERS) as one:
        before, cpu = await one.tell(), one.server.cpu()
        await asyncio.sleep(5.0 if scale is SHORT else 15.0)
        herd = Herd(one.server.port, [], impatient=False)
        return await one.outcome("nobody", herd, 0.0, before, cpu)


async def known(scale: Scale) -> Outcome:
    """(a) All are known: they leave, and come back at once."""
    async with bench(WORKERS) as one:
        await one.tell(takes=0.0)
        names = tokens(scale.clients)
        first, _ = await _come(one, names, impatient=False, timeout=300)
        await first.close()
        await one.tell(takes=TAKES)
        one.latencies.clear()
        before, cpu = await one.tell(), one.server.cpu()
        herd, took = await _come(one, names, impatient=True, timeout=120)
        found = await one.outcome("known grants", herd, took, before, cpu)
        found.check("the CMS was asked", found.questions == 0)
        found.check("a client was lost", not herd.happened["lost"])
        await herd.close()
        return found


async def _unknown(scale: Scale, part: str, cap: int, tabs: int, impatient: bool) -> Outcome:
    async with bench(cap) as one:
        wanted = scale.clients // tabs
        least = wanted * TAKES / WORKERS
        bare = [await ask_bare(one.cms_port, cap, BARE_FOR)]
        one.latencies.clear()
        before, cpu = await one.tell(forget_most=True), one.server.cpu()
        names = tokens(scale.clients, tabs)
        herd, took = await _come(one, names, impatient=impatient, timeout=3 * least + 60)
        found = await one.outcome(part, herd, took, before, cpu)
        bare.append(await ask_bare(one.cms_port, cap, BARE_FOR))
        found.floor = round(wanted / statistics.mean(bare), 2)
        found.check("not one question for each token", found.questions == wanted)
        found.check("more at once than may be", found.at_once <= cap)
        # A short run ends while those who gave up early are still away.
        more = 20.0 if impatient and scale is SHORT else 0.0
        # With few questions it is the handshakes that take the time.
        slow = tabs == 1 and took > MARGIN * max(least, found.floor) + more
        found.check("it took too long", not slow)
        found.check("a client was lost", not herd.happened["lost"])
        await herd.close()
        return found


async def unknown(scale: Scale) -> Outcome:
    """(b) Nobody is known; all wait for as long as it takes."""
    return await _unknown(scale, "unknown tokens", WORKERS, 1, False)


async def unknown_impatient(scale: Scale) -> Outcome:
    """(b) Nobody is known; all behave as the library, which gives up and returns."""
    return await _unknown(scale, "unknown tokens, clients that give up", WORKERS, 1, True)


async def unknown_default(scale: Scale) -> Outcome:
    """(b) With the default cap, which is four times what the CMS can do at once."""
    return await _unknown(scale, "unknown tokens, a cap of 20", 20, 1, False)


async def tabs(scale: Scale) -> Outcome:
    """(c) Eight tabs for each token."""
    return await _unknown(scale, "unknown tokens, 8 tabs each", WORKERS, 8, False)


async def wavering(scale: Scale) -> Outcome:
    """The CMS becomes slow while they come, dies, and returns; half of them are known."""
    async with bench(20) as one:
        await one.tell(takes=0.0)
        half = scale.wavering // 2
        names = tokens(scale.wavering)
        first, _ = await _come(one, names[:half], impatient=False, timeout=60)
        await one.tell(takes=TAKES)
        before, cpu = await one.tell(), one.server.cpu()
        herd = Herd(one.server.port, names[half:], impatient=True)
        herd.come()
        await asyncio.sleep(3)
        slowed = await one.tell(takes=20 * TAKES)
        await asyncio.sleep(10)
        died = await one.tell(dead=True, takes=TAKES)
        await asyncio.sleep(20)
        back = await one.tell(dead=False)
        returned = time.monotonic()
        await herd.all_in(240)
        all_in = time.monotonic() - returned
        found = await one.outcome("a CMS that wavers", herd, all_in, before, cpu)
        found.notes = {
            "questions in the 10 s in which it was slow": died["questions"] - slowed["questions"],
            "questions in the 20 s in which it was dead": back["questions"] - died["questions"],
            "seconds from its return until all are in": round(all_in, 2),
        }
        found.check("a known client was lost", first.inside == half and not first.happened["lost"])
        found.check("more at once than may be", found.at_once <= 20)
        await herd.close()
        await first.close()
        return found


async def retry_after(scale: Scale) -> Outcome:
    """The CMS answers 503 with Retry-After: 10, then returns."""
    async with bench(20) as one:
        before, cpu = await one.tell(retry_after=10), one.server.cpu()
        herd = Herd(one.server.port, tokens(scale.wavering), impatient=True)
        herd.come()
        await asyncio.sleep(9)
        told = await one.tell(retry_after=0)
        all_in = await herd.all_in(240)
        found = await one.outcome("Retry-After: 10", herd, all_in, before, cpu)
        advised = sorted(herd.advised)
        found.notes = {
            "questions in the first 9 s": told["questions"] - before["questions"],
            "clients that were told when to come back": len(advised),
            "least and most seconds that were told": [advised[0], advised[-1]],  # type: ignore[dict-item]
        }
        # Those that were on their way when the first answer came are no fault.
        found.check("asked before it was over", (await one.tell())["early"] < 20)
        await herd.close()
        return found


PARTS: dict[str, Callable[[Scale], Awaitable[Outcome]]] = {
    "quiet": quiet,
    "known": known,
    "unknown": unknown,
    "impatient": unknown_impatient,
    "default": unknown_default,
    "tabs": tabs,
    "wavering": wavering,
    "retry-after": retry_after,
}


def line(found: Outcome) -> str:
    """Give an outcome, for those who wait."""
    page = f"{found.page_median * 1e3:.0f}" if found.page_median else "-"
    slowest = f"{found.page_p99 * 1e3:.0f}" if found.page_p99 else "-"
    return (
        f"{found.part}: {found.questions} questions, at most {found.at_once} at once (cap"
        f" {found.cap}, limit {found.limit or '-'}), all in after {found.all_in} s (least"
        f" {found.least} s, floor {found.floor or '-'} s), a page took {page} ms (p99 {slowest}"
        f" ms), server {found.server_cpu} s CPU, {found.happened}"
        f" {found.notes or ''} {'FAULTS: ' + '; '.join(found.faults) if found.faults else ''}"
    ).strip()


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write lines to stderr and JSON to stdout, and give the exit code."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/shield.py", description="Measure what reaches the CMS.", allow_abbrev=False
    )
    parser.add_argument("--short", action="store_true", help="less of everything; two minutes")
    parser.add_argument("--only", choices=PARTS, action="append", help="this part alone")
    parser.add_argument("--out", metavar="FILE", type=Path, help="write the JSON there, too")
    options = parser.parse_args(argv)
    scale = SHORT if options.short else FULL
    prepare(scale.time_limit)
    outcomes = []
    try:
        for part in options.only or PARTS:
            found = asyncio.run(PARTS[part](scale))
            print(line(found), file=sys.stderr, flush=True)
            outcomes.append(found)
    except (BenchmarkError, TimeoutError) as error:
        print(f"benchmarks: {str(error) or 'not all were let in in time'}", file=sys.stderr)
        return 1
    document = {
        "command": " ".join(["benchmarks/shield.py", *(sys.argv[1:] if argv is None else argv)]),
        "machine": machine(),
        "scale": asdict(scale),
        "outcomes": [asdict(found) for found in outcomes],
    }
    text = json.dumps(document, indent=2)
    print(text)
    if options.out is not None:
        options.out.write_text(f"{text}\n", encoding="utf-8")
    return int(any(found.faults for found in outcomes))


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    sys.exit(main())
