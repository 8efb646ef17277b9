"""Several runs as one: stages, of which a manifest says what went in and what came out, and which are done.

manifest.json   {"stages": {NAME: {recipe, settings, data, in, out}}, ...}: weights and files by sha256 of their contents
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState

from nlpft import config
from nlpft.data import sources, store
from nlpft.errors import ConfigError, RunExists
from nlpft.files import write_text
from nlpft.models.pretrained import resolve
from nlpft.rundir import RunDir
from nlpft.training.checkpoint import FREE


@dataclass(frozen=True)
class Stage:
    """A run of a recipe."""

    name: str
    recipe: str
    main: Callable[[Any], Any]
    cfg: Any  # the recipe's settings: RunConfig and its own

    @property
    def model(self) -> Path:
        """Where its result lies when it is done."""
        return RunDir(self.cfg.output_dir).model


def read(path: Path, resume: bool = True) -> dict[str, Any]:
    """The manifest; a new one where there is none. Raises RunExists where there is one that is not to be resumed."""
    if not path.is_file():
        return {"stages": {}}
    if not resume:
        raise RunExists(
            f"{path.parent}: already holds a run; go on with it by --resume, or choose another --output_dir"
        )
    return dict(json.loads(path.read_text(encoding="utf-8")))


def note(path: Path, **facts: Any) -> None:
    """Put `facts` into the manifest."""
    if PartialState().is_main_process:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps({**read(path), **facts}, indent=2, ensure_ascii=False) + "\n")
    PartialState().wait_for_everyone()


def run(path: Path, stage: Stage) -> bool:
    """Run `stage`, or go on with it; False where the manifest in `path` says that it is done, and its weights are still there.

    Raises ConfigError where it was begun with other settings, data or weights than now.
    """
    stages, now = read(path)["stages"], facts(stage)
    known = stages.get(stage.name, now)
    _check(stage, known, now, path.parent)
    if "out" in known:
        if not stage.model.is_dir() or weights_hash(stage.model) != known["out"]["sha256"]:
            raise ConfigError(
                f"{stage.model}: not the weights that stage {stage.name} ended with; choose another output_dir"
            )
        return False
    note(path, stages={**stages, stage.name: now})
    stage.main(dataclasses.replace(stage.cfg, resume=True))
    out = {"model": str(stage.model), "sha256": weights_hash(stage.model)}
    note(path, stages={**stages, stage.name: {**now, "out": out}})
    return True


def facts(stage: Stage) -> dict[str, Any]:
    """What decides what comes out of a stage."""
    settings = {key: value for key, value in config.flat(stage.cfg).items() if not key.startswith(FREE)}
    plain = json.loads(json.dumps(settings))  # as the manifest has them
    return {"recipe": stage.recipe, "settings": plain, "data": _data(stage.cfg), "in": _origin(stage.cfg)}


def weights_hash(folder: Path) -> str:
    """sha256 of the names and contents of the weights in a model's folder."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")]):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _origin(cfg: Any) -> dict[str, str]:
    """The weights, or the configuration, that a stage begins with."""
    if begun := getattr(cfg, "from_config", None):
        try:
            return {"model": str(begun), "sha256": hashlib.sha256(begun.read_bytes()).hexdigest()}
        except OSError as error:
            raise ConfigError(f"from_config {begun}: cannot be read: {error.strerror}") from error
    return {"model": cfg.model, "sha256": weights_hash(resolve(cfg.model))}


def _data(cfg: Any) -> dict[str, str]:
    """Datasets and files of raw text, by their contents."""
    folders = {
        str(folder)
        for name in ("train", "eval", "test")
        if (folder := getattr(cfg.data, name, None)) not in (None, Path())
    }
    text = getattr(cfg, "text", None)
    files = sources.find(list(text.files), "text") if text and text.files else []
    return {folder: str(store.info(Path(folder)).get("fingerprint")) for folder in sorted(folders)} | {
        source.name: sources.fingerprint(source) for source in files
    }


def _check(stage: Stage, known: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """Raise ConfigError, with both values, for what differs from when the stage was begun."""
    before, after = (config.flatten({k: d[k] for k in ("recipe", "settings", "data", "in")}, " ") for d in (known, now))
    changed = config.differences(before, after)
    if changed:
        raise ConfigError(
            f"stage {stage.name} was run otherwise; what it made is not used for this:\n"
            + "\n".join(changed)
            + f"\nchoose another output_dir, or change it back to go on in {folder}"
        )
