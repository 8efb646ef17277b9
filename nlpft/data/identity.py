"""What a dataset is called by its content: the same call finds it again, and any change that could change it is another name."""

import hashlib
import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import nlpft
from nlpft import plugins
from nlpft.data import sources
from nlpft.data.options import Options
from nlpft.data.sources import Source
from nlpft.data.tokenizer import TextTokenizer
from nlpft.templates._chat import ChatTemplate

CODE = ("types.py", "data/**/*.py", "formats/*.py", "templates/*.py")  # files that decide what a row becomes
PACKAGES = ("tokenizers", "jinja2", "orjson")  # that do, too; engines give the ids of tokenizers, or are not used
DECIDE_NOTHING = ("workers", "allow_truncated")


def identity(
    found: Sequence[Source],
    benchmarks: Sequence[Source],
    tokenizer: TextTokenizer,
    template: ChatTemplate,
    options: Options,
    model: str,
) -> dict[str, Any]:
    """What the dataset is made from; its fingerprint covers the files' bytes and all that decides the tokens."""
    decided_by = {f.name: getattr(options, f.name) for f in fields(Options) if f.name not in DECIDE_NOTHING}
    limit = options.max_length or tokenizer.context
    today = datetime.now().date() if "strftime_now" in template.source else None  # such templates write the date
    names = [source.name for source in found]
    facts = [decided_by, limit, template.hash, template.tokens, today, tokenizer.hash, code(), _own(options), names]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=repr).encode())
    for source in [*found, *benchmarks]:
        digest.update(sources.fingerprint(source).encode())
    return {
        "model": model,
        "files": names,
        "template": template.source,
        "template_hash": template.hash,
        "tokenizer_hash": tokenizer.hash,
        "max_length": limit,
        "fingerprint": digest.hexdigest()[:16],
    }


@cache
def code() -> str:
    """Stands for the code that makes datasets: other code may make another dataset of the same files."""
    versions = [nlpft.__version__, *(importlib.metadata.version(package) for package in PACKAGES)]
    digest = hashlib.sha256(" ".join(versions).encode())
    root = Path(nlpft.__file__).parent
    for path in sorted(path for pattern in CODE for path in root.glob(pattern)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _own(options: Options) -> str:
    """Stands for the code of the user's own format, where there is one."""
    if options.format == "auto" or options.format in plugins.names("formats"):
        return ""
    file = plugins.load("formats", options.format).__file__
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""
