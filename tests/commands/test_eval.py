"""`nlpft eval`: one base and its adapters in one go, whatever fails or is killed on the way, on any number of processes."""

import json
import sys
from types import SimpleNamespace

import processes
import pytest
import tiny
import torch
from adapters import save_adapter

from nlpft import cli
from nlpft.errors import ConfigError
from nlpft.evaluation import heldout, language_model
from nlpft.models import load
from nlpft.templates import alpaca

CHOICE = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: items.jsonl}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{{column}}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{gold}}}}"
metric_list: [{{metric: acc}}]
"""
WRITE = """
task: numbers
dataset_path: json
dataset_kwargs: {data_files: {test: items.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{gold}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 9}
filter_list:
  - {name: strict, filter: [{function: regex, regex_pattern: "#### ([0-9]+)"}, {function: take_first}]}
metric_list: [{metric: exact_match}]
"""
HELD_OUT = [tiny.chat(f"question {n}", ["word", "reply"][n % 2]) for n in range(6)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Tasks `animals` and `numbers`, and held-out rows."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    rows = [
        {"question": f"word {n} " * (1 + n), "choices": [" reply", " answer there", " 5"], "gold": n % 3}
        for n in range(9)
    ]
    tiny.write_jsonl(tmp_path / "items.jsonl", rows)
    (tmp_path / "animals.yaml").write_text(CHOICE.format(name="animals", column="question"))
    (tmp_path / "numbers.yaml").write_text(WRITE)
    tiny.write_json(tmp_path / "rows.json", HELD_OUT)
    return tmp_path


def words(model, folder, out, *more):
    tasks = [str(folder / "animals.yaml"), str(folder / "numbers.yaml")]
    return [
        "eval",
        str(model),
        "--tasks",
        *tasks,
        "--heldout",
        str(folder / "rows.json"),
        "-o",
        str(out),
        *map(str, more),
    ]


def read(out):
    results = json.loads((out / "results.json").read_text())
    samples = {p.stem: [json.loads(line) for line in p.open()] for p in sorted(out.glob("samples_*.jsonl"))}
    return results, samples


def scores(out):
    results, samples = read(out)
    return {task: {k: v for k, v in row.items() if k != "alias"} for task, row in results["results"].items()}, samples


def test_a_base_and_its_adapters_are_evaluated_in_one_go_as_each_by_itself(folder, tiny_folder, capsys):
    active = save_adapter(folder / "active", tiny_folder, 0.5)
    idle = save_adapter(folder / "idle", tiny_folder, 0.0)
    assert cli.main(words(tiny_folder, folder, folder / "all", "--adapters", active, idle)) == 1
    assert "idle: the adapter is inactive" in capsys.readouterr().err
    assert sorted(p.name for p in (folder / "all").iterdir()) == ["active", "base", "idle", "nlpft.json"]
    assert cli.main(words(tiny_folder, folder, folder / "alone")) == 0
    assert cli.main(words(active, folder, folder / "one")) == 0
    assert scores(folder / "all" / "base") == scores(folder / "all" / "idle") == scores(folder / "alone")
    assert scores(folder / "all" / "active") == scores(folder / "one") != scores(folder / "alone")
    told = {label: read(folder / "all" / label)[0]["nlpft"] for label in ("base", "active", "idle")}
    assert [told[x].get("inactive") for x in told] == [None, False, True]
    assert [told[x]["label"] for x in told] == list(told)
    assert cli.main(words(tiny_folder, folder, folder / "all", "--adapters", active, "--overwrite")) == 0


def test_an_adapter_that_does_not_fit_does_not_lose_the_others(folder, tiny_folder):
    good = save_adapter(folder / "good", tiny_folder, 0.5)
    odd = save_adapter(folder / "odd", tiny_folder, 0.5)
    settings = json.loads((odd / "adapter_config.json").read_text())
    (odd / "adapter_config.json").write_text(json.dumps({**settings, "r": 3}))
    assert cli.main(words(tiny_folder, folder, folder / "out", "--adapters", odd, good)) == 1
    assert "cannot be put on its base" in read(folder / "out" / "odd")[0]["nlpft"]["errors"]["odd"]
    assert cli.main(words(good, folder, folder / "one")) == 0
    assert scores(folder / "out" / "good") == scores(folder / "one")


def test_another_template_is_refused_unless_forced(folder, tiny_folder, capsys):
    adapter = save_adapter(folder / "adapter", tiny_folder, 0.5, alpaca.CHAT_TEMPLATE)
    line = words(tiny_folder, folder, folder / "out", "--adapters", adapter)
    assert cli.main(line) == 2
    assert "another chat template" in capsys.readouterr().err
    assert cli.main([*line, "--force"]) == 0


def test_a_task_that_fails_does_not_lose_the_others(folder, tiny_folder, capsys):
    (folder / "odd.yaml").write_text(CHOICE.format(name="odd", column="riddle"))
    line = words(tiny_folder, folder, folder / "out")
    line.insert(3, str(folder / "odd.yaml"))
    assert cli.main(line) == 1
    results, _ = read(folder / "out")
    assert results["results"].keys() == {"animals", "numbers", "heldout"}
    (error,) = results["nlpft"]["errors"].values()
    assert "'riddle' is undefined; its columns: question, choices, gold" in error
    assert "failed" in capsys.readouterr().err


def test_answers_that_cannot_be_read_are_counted_and_shown(folder, tiny_folder, capsys):
    line = words(tiny_folder, folder, folder / "out", "--metrics", "accuracy", "rouge")
    assert cli.main(line) == 0
    results, samples = read(folder / "out")
    assert results["nlpft"]["unparsed"] == {"heldout,accuracy": 6, "numbers,strict": 9}
    assert "9 answers of numbers, filter strict could not be read" in capsys.readouterr().err
    assert results["results"]["heldout"]["accuracy,none"] == 0
    assert {"accuracy", "rougeL", "exact_match"} <= set(samples["samples_heldout"][0]["metrics"])


def test_a_killed_run_goes_on_where_it_was(folder, tiny_folder, monkeypatch):
    line = words(tiny_folder, folder, folder / "out")
    assert cli.main(words(tiny_folder, folder, folder / "whole")) == 0
    monkeypatch.setitem(language_model.TOKENS, "cpu", 20)
    real, done = language_model.scoring.begin, []

    def killed(model, batch):
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(batch)
        return real(model, batch)

    monkeypatch.setattr(language_model.scoring, "begin", killed)
    assert cli.main(line) == 130
    assert not (folder / "out").exists()
    again = []
    monkeypatch.setattr(language_model.scoring, "begin", lambda m, batch: again.append(batch) or real(m, batch))
    monkeypatch.setattr("nlpft.evaluation.heldout.answers", None)  # all of them are kept
    assert cli.main(line) == 0
    assert not [batch for batch in again if batch in done[:-1]]  # answers are asked for when the next batch has begun
    assert len(again) > 2
    (before, rows), (after, others) = scores(folder / "whole"), scores(folder / "out")
    assert after == {task: pytest.approx(values) for task, values in before.items()}
    assert [r["resps"] for r in others["samples_numbers"]] == [r["resps"] for r in rows["samples_numbers"]]
    assert [p.name for p in folder.iterdir() if "partial" in p.name] == []


def counted(monkeypatch):
    """The batches that tasks are asked from now on."""
    real, asked = language_model.scoring.begin, []
    monkeypatch.setattr(language_model.scoring, "begin", lambda m, batch: asked.extend(batch) or real(m, batch))
    return asked


def test_the_same_call_tries_again_what_failed_and_nothing_else(folder, tiny_folder, monkeypatch, capsys):
    (folder / "odd.yaml").write_text(CHOICE.format(name="odd", column="riddle"))
    line = words(tiny_folder, folder, folder / "out")
    line.insert(3, str(folder / "odd.yaml"))
    assert cli.main(line) == 1
    assert "the same call tries again" in capsys.readouterr().err
    (folder / "odd.yaml").write_text(CHOICE.format(name="odd", column="gold"))
    asked = counted(monkeypatch)
    monkeypatch.setattr(heldout, "answers", None)
    monkeypatch.setattr(language_model, "answers", None)
    assert cli.main([*line, "--harness.batch_size", "2"]) == 0
    assert len(asked) == 9 * 3
    assert read(folder / "out")[0]["results"].keys() == {"odd", "animals", "numbers", "heldout"}
    assert "errors" not in read(folder / "out")[0]["nlpft"]
    assert [p.name for p in folder.iterdir() if "partial" in p.name] == []
    assert cli.main(line) == 2


def test_another_call_does_not_replace_what_one_with_failures_has_written(folder, tiny_folder, capsys):
    (folder / "odd.yaml").write_text(CHOICE.format(name="odd", column="riddle"))
    line = ["eval", str(tiny_folder), "--tasks", str(folder / "odd.yaml"), "--heldout", str(folder / "rows.json")]
    line += ["-o", str(folder / "out")]
    assert cli.main(line) == 1
    assert cli.main([*line, "--max_new_tokens", "3"]) == 2
    assert "already there" in capsys.readouterr().err
    assert cli.main([*line, "--max_new_tokens", "3", "--overwrite"]) == 1


def test_an_adapter_that_does_not_fit_is_tried_again_by_the_same_call(folder, tiny_folder, monkeypatch):
    odd = save_adapter(folder / "odd", tiny_folder, 0.5)
    settings = (odd / "adapter_config.json").read_text()
    (odd / "adapter_config.json").write_text(json.dumps({**json.loads(settings), "r": 3}))
    line = words(tiny_folder, folder, folder / "out", "--adapters", odd)
    assert cli.main(line) == 1
    (odd / "adapter_config.json").write_text(settings)
    asked = counted(monkeypatch)
    assert cli.main(line) == 0
    assert len(asked) == 9 * 3  # of the adapter, none of the base


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), "lower --batch_size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "lower --batch_size"),
        (MemoryError(), "lower --batch_size"),
        (OSError(28, "No space left on device", "answers"), "no space left on the disk"),
    ],
)
@pytest.mark.parametrize("where", ["a task", "held-out rows"])
def test_memory_or_disk_that_is_used_up_ends_the_run_and_keeps_the_answers(
    folder, tiny_folder, monkeypatch, capsys, error, said, where
):
    def full(*args, **settings):
        raise error

    module, name = (language_model.scoring, "begin") if where == "a task" else (heldout, "answers")
    monkeypatch.setattr(module, name, full)
    line = words(tiny_folder, folder, folder / "out")
    assert cli.main(line) == 2
    assert said in capsys.readouterr().err
    assert not (folder / "out").exists()
    monkeypatch.undo()
    monkeypatch.setattr(heldout, "_pack_losses", None)
    assert cli.main(line) == 0


def test_answers_are_kept_where_nothing_came_of_them(folder, tiny_folder, monkeypatch, capsys):
    def odd(*args):
        raise ConfigError("cannot be compared")

    monkeypatch.setattr(heldout.answer_metrics, "compute", odd)
    line = ["eval", str(tiny_folder), "--heldout", str(folder / "rows.json"), "-o", str(folder / "out")]
    assert cli.main(line) == 2
    assert "cannot be compared" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.setattr(heldout, "answers", None)
    assert cli.main(line) == 0


def test_lm_eval_neither_repeats_the_settings_nor_looks_at_the_machine(folder, tiny_folder, monkeypatch, caplog, capfd):
    surveyed = []
    monkeypatch.setattr("torch.utils.collect_env.get_pretty_env_info", lambda: surveyed.append(1) or "")
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *args, **settings: surveyed.append(2))
    monkeypatch.chdir(folder)
    line = ["eval", str(tiny_folder), "--tasks", str(folder / "animals.yaml"), "-o", str(folder / "out")]
    assert cli.main([*line, "--harness.num_fewshot", "1"]) == 0
    assert surveyed == []
    assert [r.getMessage() for r in caplog.records if r.name.startswith("lm_eval")] == []
    assert "git" not in capfd.readouterr().err


def test_a_chat_template_that_is_not_there_is_said(folder, capsys):
    model = tiny.save_model(folder / "model")
    (model / "chat_template.jinja").unlink()
    line = [
        "eval",
        str(model),
        "--tasks",
        str(folder / "animals.yaml"),
        "-o",
        str(folder / "out"),
        "--harness.chat_template",
    ]
    assert cli.main(line) == 2
    assert "no chat template" in capsys.readouterr().err


def test_broken_weights_are_named(folder, capsys):
    model = tiny.save_model(folder / "model")
    (model / "model.safetensors").write_bytes(b"12345678{")
    assert cli.main(words(model, folder, folder / "out")) == 2
    assert "model.safetensors: broken" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("metrics", "said"),
    [(["acuracy"], "did you mean 'accuracy'"), (["seqeval"], "not a list of BIO tags"), (["f1"], "compares labels")],
)
def test_metrics_that_do_not_fit_are_said_before_weights_are_read(
    folder, tiny_folder, monkeypatch, capsys, metrics, said
):
    monkeypatch.setattr(load, "load_model", lambda *args: pytest.fail("read"))
    rows = [tiny.chat(f"question {n}", f"word {n}") for n in range(6)]
    file = tiny.write_json(folder / "free.json", rows)
    line = ["eval", str(tiny_folder), "--heldout", str(file), "-o", str(folder / "out"), "--metrics", *metrics]
    assert cli.main(line) == 2
    assert said in capsys.readouterr().err


def test_held_out_files_are_read_by_the_users_names_of_keys_and_roles(folder, tiny_folder):
    rows = [{"q": "word", "a": "reply"}, {"turns": [{"who": "Tom", "said": "5"}, {"who": "Ann", "said": "6"}]}]
    file = tiny.write_json(folder / "own.json", rows)
    line = ["eval", str(tiny_folder), "--heldout", str(file), "-o", str(folder / "out")]
    assert cli.main(line) == 2
    names = {"prompt": "q", "response": "a", "messages": "turns", "role": "who", "content": "said"}
    line += [word for key, name in names.items() for word in (f"--columns.{key}", name)]
    assert cli.main([*line, "--roles.user", "Tom", "--roles.assistant", "Ann"]) == 0
    assert [row["target"] for row in read(folder / "out")[1]["samples_heldout"]] == ["reply", "6"]


def test_vllm_is_asked_for_by_name(folder, tiny_folder, capsys, monkeypatch):
    line = ["eval", str(tiny_folder), "--tasks", str(folder / "numbers.yaml"), "-o", str(folder / "out")]
    line += ["--harness.engine", "vllm"]
    monkeypatch.setitem(sys.modules, "vllm", None)
    assert cli.main(line) == 2
    assert "pip install vllm" in capsys.readouterr().err

    class LLM:
        def __init__(self, **settings):
            assert settings["model"] == str(tiny_folder)

        def generate(self, prompts, sampling, **more):
            assert sampling[0].stop == ["\n", "<|im_end|>"]
            return [SimpleNamespace(outputs=[SimpleNamespace(token_ids=p["prompt_token_ids"][:3])]) for p in prompts]

    fake = SimpleNamespace(LLM=LLM, SamplingParams=lambda **settings: SimpleNamespace(**settings))
    monkeypatch.setitem(sys.modules, "vllm", fake)
    assert cli.main(line) == 0
    assert read(folder / "out")[1]["samples_numbers"][0]["resps"][0][0].startswith("w")


def both(line):
    return cli.main(line)


@pytest.mark.parametrize("number", [2, 3])
def test_several_processes_give_what_one_gives(folder, tiny_folder, monkeypatch, number):
    adapter = save_adapter(folder / "adapter", tiny_folder, 0.5)
    more = ("--adapters", adapter, "--batch_size", 2)
    assert cli.main(words(tiny_folder, folder, folder / "one", *more)) == 0
    monkeypatch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
    assert processes.run(both, number, words(tiny_folder, folder, folder / "many", *more)) == [0] * number
    for label in ("base", "adapter"):
        assert scores(folder / "many" / label) == scores(folder / "one" / label)
