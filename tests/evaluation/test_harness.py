"""lm-eval's tasks: local task files without network, known names only, lm-eval's own layout on disk."""

import json

import pytest
import tiny

from nlpft import cli
from nlpft.errors import ConfigError, DataError
from nlpft.evaluation.harness import check_name, load_task_file

TASK = """
task: animals
dataset_path: json
dataset_kwargs: {data_files: {test: animals.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{gold}}"
metric_list: [{metric: acc}]
"""


@pytest.fixture
def task_file(tmp_path):
    rows = [{"question": f"word {n}", "choices": ["reply", "answer there"], "gold": n % 2} for n in range(6)]
    tiny.write_jsonl(tmp_path / "animals.jsonl", rows)
    (tmp_path / "animals.yaml").write_text(TASK)
    return tmp_path / "animals.yaml"


def test_a_local_task_and_a_held_out_file_are_scored_in_one_run(tmp_path, task_file, tiny_folder, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    held_out = tiny.write_json(tmp_path / "rows.json", [tiny.chat("q", "a"), tiny.chat("r", "b")])
    out = tmp_path / "eval" / "base"
    assert (
        cli.main(["eval", str(tiny_folder), "--tasks", str(task_file), "--heldout", str(held_out), "-o", str(out)]) == 0
    )
    results = json.loads((out / "results.json").read_text())
    assert results["results"].keys() == {"animals", "heldout"}
    assert 0 <= results["results"]["animals"]["acc,none"] <= 1
    assert results["nlpft"]["label"] == "base"
    samples = [json.loads(line) for line in (out / "samples_animals.jsonl").open()]
    assert sorted(s["doc_id"] for s in samples) == list(range(6))
    assert {"doc_hash", "prompt_hash", "target_hash", "acc"} <= samples[0].keys()


def test_data_files_lie_beside_the_task_file(task_file):
    config = load_task_file(task_file)
    assert config["dataset_kwargs"]["data_files"]["test"] == str((task_file.parent / "animals.jsonl").resolve())
    (task_file.parent / "animals.jsonl").unlink()
    with pytest.raises(DataError, match=r"animals\.jsonl: no such file"):
        load_task_file(task_file)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("task: x\na: [", r"t\.yaml:3: not a task file"),
        ("- x", "not a task file"),
        ("group: x", "'task'"),
        ("task: x\ndoc_to_txt: y", r"t\.yaml:2: a task has no key 'doc_to_txt'; did you mean 'doc_to_text'"),
        ("task: x\ndoc_to_text: '{{a'", r"t\.yaml:2: doc_to_text: unexpected end of template"),
        ("task: x\ntag: y\ndoc_to_choice: [a, '{% if %}']", r"t\.yaml:3: doc_to_choice: "),
        ("task: x\noutput_type: multiple", r"t\.yaml:2: no output_type 'multiple'; did you mean 'multiple_choice'"),
        ("task: x\ndoc_to_text: !function nowhere.f", "a function that it names cannot be loaded"),
    ],
)
def test_a_broken_task_file_is_named(tmp_path, text, said):
    (tmp_path / "t.yaml").write_text(text)
    with pytest.raises(DataError, match=said):
        load_task_file(tmp_path / "t.yaml")


def test_an_unknown_task_suggests_a_known_one():
    class Manager:
        all_tasks = ("hellaswag", "piqa")

        def match_tasks(self, names):
            return [n for n in names if n in self.all_tasks]

    assert check_name("piqa", Manager()) == "piqa"
    with pytest.raises(ConfigError, match="did you mean 'hellaswag'"):
        check_name("helaswag", Manager())


def test_nothing_to_evaluate_is_said_before_a_model_is_loaded(tmp_path, capsys):
    assert cli.main(["eval", "no-such-model", "-o", str(tmp_path / "x")]) == 2
    assert "--tasks" in capsys.readouterr().err
