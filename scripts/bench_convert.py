"""Time and memory of data preparation, nlpft beside the suites that are installed: from a file to a packed dataset on disk.

    python scripts/bench_convert.py --file chats.json --model FOLDER --peer trl=/venvs/trl/bin/python axolotl=/venvs/ax/bin/python

Whole processes, each with an empty cache, one suite after the other in every round; medians over the rounds. Memory is watched
in a run of its own, because watching takes time. Tokens are counted in the Arrow files that a suite leaves behind: how far the
counts lie apart shows whether the suites did the same work (conversations that are too long are cut in different ways).

A peer is a suite with a job in `scripts/bench/` (with_NAME.py); without --peer, those are taken that this Python can import.
"""

import importlib.util
import json
import os
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import tyro
from bench import corpus, process
from bench.result import Counts, Result, count, table
from rich.console import Console

from nlpft.models.pretrained import resolve

JOBS = Path(__file__).parent / "bench"
OURS = "nlpft"
PEERS = tuple(sorted({path.stem.removeprefix("with_") for path in JOBS.glob("with_*.py")} - {OURS}))


@dataclass(frozen=True)
class Config:
    file: Path
    """Corpus: ShareGPT, Alpaca or messages, JSON or JSONL."""
    model: str = "smollm2-135m"
    """Model whose tokenizer and chat template are used: a local folder, a hub id, or smollm2-135m."""
    peer: tuple[str, ...] = ()
    """Suites to compare with, as NAME=PYTHON: the Python in which it is installed."""
    rounds: int = 3
    """How often each suite is timed."""
    workers: int = 2
    """Processors that all run on, and worker processes of the peers."""
    max_length: int = 4096
    """Tokens in a pack."""
    clean: bool = False
    """Measure with the file's complete conversations, cleaned until every peer keeps all of them."""
    memory: bool = True
    """Watch memory, in one more run of each suite."""
    grow: int = 0
    """Watch nlpft's memory with a file so many times as large, too (0: do not)."""
    nlpft_args: str = ""
    """More arguments of `nlpft convert`, in one string."""
    scratch: Path | None = None
    """Folder for datasets and caches while it runs (default: the system's for temporary files)."""
    output: Path | None = None
    """File for the measurements as JSON."""


class Suite(NamedTuple):
    """One way to prepare the data."""

    name: str
    python: str
    file: Path
    more: tuple[str, ...] = ()


class Input(NamedTuple):
    """The corpus in both forms."""

    file: Path  # nlpft's
    chats: Path  # the peers': JSONL of messages
    rows: int
    megabytes: float  # of `file`


class Failed(Exception):
    """A suite's run that did not end well."""


def main(config: Config) -> int:
    if config.rounds < 1 or config.workers < 1:
        raise SystemExit("--rounds and --workers: at least 1")
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[: config.workers]))  # what it starts inherits this
    with tempfile.TemporaryDirectory(prefix="bench-", dir=config.scratch) as name:
        given = prepare(config, Path(name))
        suites = [Suite(OURS, sys.executable, given.file, tuple(config.nlpft_args.split()))]
        suites += [Suite(peer, python, given.chats) for peer, python in peers(config.peer).items()]
        try:
            results = measure(suites, config, Path(name))
        except Failed as why:
            raise SystemExit(f"{OURS}: {why}") from why
    show(results, given, config)
    if config.output:
        config.output.write_text(json.dumps(report(results, given), indent=2) + "\n")
    return 0


def peers(given: tuple[str, ...]) -> dict[str, str]:
    """The Python of each peer; those that this Python has, where none is given."""
    if not given:
        return {name: sys.executable for name in PEERS if importlib.util.find_spec(name)}
    named = {name: python for name, _, python in (word.partition("=") for word in given)}
    wrong = [name for name, python in named.items() if name not in PEERS or not Path(python).is_file()]
    if wrong:
        raise SystemExit(f"--peer {' '.join(wrong)}: should be NAME=PYTHON; names: {', '.join(PEERS)}")
    return named


def prepare(config: Config, scratch: Path) -> Input:
    """The corpus as nlpft and as the peers read it."""
    conversations = [corpus.turns(record) for record in corpus.records(config.file)]
    file, chats = config.file, scratch / "chats.jsonl"
    if config.clean:
        conversations = [kept for found in conversations if (kept := corpus.cleaned(found))]
        file = scratch / "clean.json"
        corpus.write_sharegpt(conversations, file)
    corpus.write_chats(conversations, chats)
    return Input(file, chats, len(conversations), file.stat().st_size / 1e6)


def measure(suites: list[Suite], config: Config, scratch: Path) -> dict[str, Result]:
    """nlpft's first call, memory, the rounds. A peer that fails says why and is left out from then on."""
    ours, failed = suites[0], set()
    results: dict[str, Result] = {}
    note(results, ours.name, *once(ours, config, scratch), timed=False)
    for number in range(config.memory + config.rounds):
        watch = config.memory and number == 0
        for suite in (suite for suite in suites if suite.name not in failed):
            try:
                note(results, suite.name, *once(suite, config, scratch, watch), timed=not watch)
            except Failed as why:
                if suite is ours:
                    raise
                failed.add(suite.name)
                say(f"{suite.name} is left out: {why}")
    if config.grow:
        larger = ours._replace(file=corpus.grown(ours.file, config.grow, scratch / f"grown{ours.file.suffix}"))
        results[OURS].grown = once(larger, config, scratch, watch=True)[0].peak
    return {name: result for name, result in results.items() if name not in failed}


def note(results: dict[str, Result], name: str, run: process.Run, counts: Counts, *, timed: bool) -> None:
    """Enter one run into the results."""
    result = results.setdefault(name, Result(counts, run.seconds))
    if run.peak.whole:
        result.peak = run.peak
    if timed:
        result.seconds.append(run.seconds)
        result.computing.append(run.computing)
    say(f"{name}: {run.seconds:.2f} s, {run.computing:.2f} s of CPU, load {os.getloadavg()[0]:.1f}")


def once(suite: Suite, config: Config, scratch: Path, watch: bool = False) -> tuple[process.Run, Counts]:
    """One run of a suite in a new folder. Raises Failed with what it said last."""
    out = scratch / "out"
    shutil.rmtree(out, ignore_errors=True)
    model = str(resolve(config.model, weights=False))
    job = [suite.python, str(JOBS / f"with_{suite.name}.py"), str(suite.file), "--model", model, "--out", str(out)]
    shape = ["--workers", str(config.workers), "--max_length", str(config.max_length)]
    places = {"NLPFT_CACHE": str(scratch / "nlpft"), "HF_HOME": str(out / "hf"), "HF_HUB_OFFLINE": "1"}
    os.sync()  # what the run before has written is not to be this one's burden
    try:
        run = process.run([*job, *shape, *suite.more], scratch / f"{suite.name}.log", os.environ | places, watch)
    except RuntimeError as error:
        raise Failed(str(error)) from error
    return run, count(json.loads(run.output.splitlines()[-1])["files"])


def show(results: dict[str, Result], given: Input, config: Config) -> None:
    """The table, and what does not fit into it."""
    console, ours = Console(width=200, highlight=False), results[OURS]
    about = (
        f"{given.file.name}, {given.megabytes:.1f} MB, {given.rows:,} rows; {config.model}; {config.workers} processors"
    )
    console.print(about)
    console.print(table(results, given.rows, given.megabytes))
    console.print(f"first call of nlpft with this tokenizer, for which it chooses an engine: {ours.first:.2f} s")
    if config.grow:
        growth = f" ({ours.grown.whole / ours.peak.whole - 1:+.0%})" if config.memory else ""
        console.print(
            f"{config.grow} times the file: {ours.grown.whole:,.0f} MB{growth}, {ours.grown.own:,.0f} without files"
        )


def report(results: dict[str, Result], given: Input) -> dict[str, Any]:
    """All measurements as JSON."""
    suites = {name: asdict(result) | {"counts": result.counts._asdict()} for name, result in results.items()}
    return {"rows": given.rows, "megabytes": given.megabytes, "meter": process.METER, "suites": suites}


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__)))
