"""The loss of every row of a dataset by itself, in the layout of an evaluation, so that two models can be compared row by row."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoConfig

from nlpft.config import module_of
from nlpft.data.loader import PackedData, Share
from nlpft.evaluation import results
from nlpft.models.kinds import KINDS, Kind
from nlpft.models.load import adapter_base, device, load_model, load_tokenizer
from nlpft.models.pretrained import resolve
from nlpft.rundir import RunDir

TASK = "held_out_rows"
LANGUAGE = ("CAUSAL_LM", "SEQ_2_SEQ_LM")  # PEFT's names of what adapters of language models do


def row_losses(
    name: str, model: nn.Module, folder: Path, objective: Any, kind: Kind, max_length: int | None
) -> dict[str, Any]:
    """Nats and targets of each row of the dataset in `folder`, by its place; rows longer than max_length are left out.

    name: of the model, whose tokenizer is used. objective: settings of one of nlpft/objectives/. What it hides of a row is the
    same in every call.
    """
    data = _data(name, model, folder, objective, kind, max_length)
    nats, targets = _scored(model, data, [[row] for row in data.rows.tolist()], objective)
    return {"places": data.places(data.rows.tolist()), "nats": nats, "targets": targets}


def mean_loss(name: str, model: nn.Module, folder: Path, objective: Any, kind: Kind, max_length: int | None) -> float:
    """Nats per target of the rows that `row_losses` would tell one by one; in packs, which is faster."""
    data = _data(name, model, folder, objective, kind, max_length)
    nats, targets = _scored(model, data, data.packs(0, 0), objective)
    return sum(nats) / max(1, sum(targets))


def _data(name: str, model: nn.Module, folder: Path, objective: Any, kind: Kind, max_length: int | None) -> PackedData:
    module = module_of(objective)
    hidden = module.corruption(objective, model, load_tokenizer(name))
    return PackedData(folder, max_length, "skip", context=kind.context(model), plan=module.PLAN, corrupt=hidden)


@torch.no_grad()
def _scored(
    model: nn.Module, data: PackedData, packs: list[list[int]], objective: Any
) -> tuple[list[float], list[int]]:
    """Nats and targets of each of `packs`."""
    module = module_of(objective)
    score = module.build(objective, model)
    model.eval()
    nats, targets = [], []
    for batch in data.micro_batches(packs, 1, Share()):
        batch = {k: v.to(device()) if v.ndim else v for k, v in batch.items()}
        nats.append(score(model, batch).item())
        targets.append(int(module.num_targets(batch)))
    return nats, targets


def mean(found: dict[str, Any]) -> float:
    """Nats per target over all rows."""
    return float(np.sum(found["nats"]) / max(1, np.sum(found["targets"])))


def write(folder: Path, label: str, found: dict[str, Any]) -> Path:
    """Write `found` (of `row_losses`) to `folder` as an evaluation called `label`; returns `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = zip(found["places"], found["nats"], found["targets"], strict=True)
    samples = [
        {"doc_id": i, "doc": {"source": place}, "doc_hash": results.text_hash(place), "filter": "none", "metrics": [],
         "resps": [], "filtered_resps": [], "loss_sum": nats, "tokens": targets}
        for i, (place, nats, targets) in enumerate(rows) if targets
    ]  # fmt: skip
    values = {"results": {TASK: {"loss,none": mean(found)}}, "higher_is_better": {TASK: {"loss": False}}}
    results.write(folder, values, {TASK: samples}, {"label": label})
    return folder


def of_run(cfg: Any) -> Path:
    """The evaluation that a run has written, of its test rows if it has some; or else the losses of its held-out rows.

    cfg: settings of a recipe, with `output_dir`, `objective` and `data`.
    """
    run = RunDir(cfg.output_dir)
    written = sorted(run.eval.glob("*/results.json"))
    if written:
        return next((path for path in written if path.parent.name == "test"), written[0]).parent
    kind = KINDS[module_of(cfg.objective).KIND]
    model = load_model(str(run.model), auto=kind.auto).to(device())
    found = row_losses(str(run.model), model, cfg.data.eval, cfg.objective, kind, cfg.data.max_length)
    return write(run.eval / "held_out", run.path.name, found)


def language_model(folder: str, first: str, kind: Kind) -> nn.Module | None:
    """The model in `folder` with the language-modelling head of the one in `first`, where it has none of its own any more.

    None for an adapter that belongs to another head.
    """
    torch.manual_seed(0)  # a model that was published without its head gets a new one: the same in every call
    path = resolve(folder)
    if adapter_base(path) is not None:
        task = json.loads((path / "adapter_config.json").read_text(encoding="utf-8")).get("task_type")
        return load_model(folder, auto=kind.auto).to(device()) if task in (*LANGUAGE, None) else None
    if folder == first or _architecture(folder) == _architecture(first):
        return load_model(folder, auto=kind.auto).to(device())
    model = load_model(first, auto=kind.auto)
    body, prefix = model.base_model, f"{model.base_model_prefix}."
    own = {name.removeprefix(prefix): tensor for name, tensor in load_file(path / "model.safetensors").items()}
    body.load_state_dict({name: own[name] for name in body.state_dict()})  # type: ignore[union-attr]
    return model.to(device())


def _architecture(name: str) -> Any:
    return AutoConfig.from_pretrained(resolve(name, weights=False)).architectures
