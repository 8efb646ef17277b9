"""The folder of one run: where each thing lies. Refuses to mix two runs.

config.yaml       the resolved configuration; reads back equal
environment.json  versions, device, seeds, data fingerprint
parameters.json   how many numbers each block has, and trains
metrics.jsonl     a line for each optimiser step ("kind": "train") and each evaluation ("kind": "eval")
checkpoints/      step-00000100/: weights and optimiser; enough to go on as if never stopped
model/            what the run was for: an adapter in PEFT's format or whole weights, with the tokenizer
eval/             LABEL/results.json and LABEL/samples_TASK.jsonl
report.html
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlpft.errors import ConfigError, ModelError, RunExists
from nlpft.files import write_text


@dataclass(frozen=True)
class RunDir:
    """Paths below one run's folder."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def environment(self) -> Path:
        return self.path / "environment.json"

    @property
    def data(self) -> Path:
        return self.path / "data.json"

    @property
    def parameters(self) -> Path:
        return self.path / "parameters.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def eval(self) -> Path:
        return self.path / "eval"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    def check_free(self) -> None:
        """Raise RunExists where a run has already been started here."""
        if self.config.exists() or self.checkpoints.exists():
            raise RunExists(
                f"{self.path}: already holds a run; go on with it by --resume, or choose another --output_dir"
            )

    def check_data(self, facts: dict[str, Any]) -> None:
        """Raise ConfigError where the training data is not what this run, if it has begun, began with."""
        if not self.data.is_file():
            return
        before = json.loads(self.data.read_text(encoding="utf-8"))["train"]
        if before.get("fingerprint") != facts.get("fingerprint"):
            raise ConfigError(
                f"{facts['folder']}: has been converted anew since {self.path} began, from other rows or settings; a resumed run "
                "keeps its data: begin a new run"
            )

    def start(self, config: str, environment: dict[str, Any], data: dict[str, Any]) -> None:
        """Make the folder and write down what is about to run."""
        self.path.mkdir(parents=True, exist_ok=True)
        for path, facts in ((self.environment, environment), (self.data, data)):
            write_text(path, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
        write_text(self.config, config)


def model_folder(path: str) -> str:
    """`path`, or the model in it where `path` is a run's folder. Raises ModelError where that run has not got one yet."""
    run = RunDir(Path(path).expanduser())
    if not run.config.is_file():
        return path
    if not run.model.is_dir():
        raise ModelError(f"{path}: a run without a model/: it has not come to its end; go on with it by --resume")
    return str(run.model)
