"""recipes/distil.py: pinned by exact losses, equal after a resume and by stored answers, clear where it refuses."""

import json
import shutil
from pathlib import Path

import distil
import processes
import pytest
import sft
import tiny
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from nlpft import config
from nlpft.data import store
from nlpft.data.convert import Options, convert
from nlpft.data.tokenizer import TextTokenizer
from nlpft.distillation import stored
from nlpft.distillation import teacher as teacher_module
from nlpft.errors import ConfigError
from nlpft.models.load import load_model
from nlpft.training import checkpoint


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, tiny_folder):
    return converted(tmp_path_factory.mktemp("distil"), tiny_folder)


def converted(folder: Path, model: Path, answer: str = "reply") -> Path:
    rows = [tiny.chat("word " * (1 + n % 9), f"{answer} {n} " * (1 + n % 7)) for n in range(40)]
    convert([tiny.write_json(folder / "rows.json", rows)], folder / "out", TextTokenizer(model), Options())
    return folder / "out"


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, tiny_folder, dataset):
    """The tiny model, fine-tuned: something to learn from."""
    run = tmp_path_factory.mktemp("teacher") / "run"
    sft.main(config.parse(sft.Config, words(run, tiny_folder, dataset, "--tuning.name", "full")))
    return run / "model"


def words(run: Path, model: Path, dataset: Path, *more: str) -> list[str]:
    fixed = {"model": model, "output_dir": run, "data.train": dataset, "data.max_length": 128, "data.packs_per_step": 3,
             "max_steps": 6, "optim.lr": 0.01, "optim.warmup": 0, "seed": 1}  # fmt: skip
    return [*(word for key, value in fixed.items() for word in (f"--{key}", str(value))), *more]


def train(run: Path, model: Path, dataset: Path, *more: str) -> list[float]:
    distil.main(config.parse(distil.Config, words(run, model, dataset, *more)))
    return losses(run)


def losses(run: Path, kind: str = "train") -> list[float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").open()]
    return [line["loss"] for line in lines if line["kind"] == kind]


def trained(run: Path, step: int = 6) -> dict:
    return checkpoint.read(run / "checkpoints" / f"step-{step:08d}")


def save_model(folder: Path, tokenizer: Path, **changes) -> Path:
    """A model of another shape with the tiny one's tokenizer."""
    made = tiny.make_model()
    torch.manual_seed(1)
    type(made)(type(made.config)(**{**made.config.to_dict(), **changes})).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)
    shutil.copyfile(tokenizer / "tokenizer.json", folder / "tokenizer.json")
    return folder


CUT = ["--student.blocks", "2"]
WAYS = {
    "soft": CUT,
    "hard": [*CUT, "--distillation.match", "hard", "--distillation.weight", "1.0"],
    "insides": [*CUT, "--distillation.hidden", "1", "--distillation.relations", "1"],
    "scheduled": [*CUT, "--distillation.schedule", "cosine", "--distillation.until", "0.5"],
}
PINNED = {  # a change here is a change of what users' runs compute: say why in the commit
    "soft": [2.35479, 2.40167, 2.11004, 1.89161, 1.87495, 1.84241],
    "hard": [4.45428, 4.09985, 3.38148, 2.88165, 2.66551, 2.51289],
    "insides": [2.48704, 2.60508, 2.15406, 1.92268, 1.90772, 1.87347],
    "scheduled": [2.35479, 3.0005, 3.66793, 3.69204, 3.62747, 3.53515],
}


@pytest.mark.parametrize("way", WAYS)
def test_losses_are_pinned(way, tmp_path, teacher, dataset):
    got = train(tmp_path / "run", teacher, dataset, *WAYS[way])
    assert got == pytest.approx(PINNED[way], rel=1e-4)


def test_the_student_is_the_teachers_first_blocks_and_is_saved_as_such(tmp_path, teacher, dataset):
    train(tmp_path / "run", teacher, dataset, *CUT, "--optim.lr", "1e-12")
    student = load_model(str(tmp_path / "run" / "model"))
    whole = load_file(teacher / "model.safetensors")
    assert len(student.model.layers) == student.config.num_hidden_layers == 2
    for name, weight in student.state_dict().items():
        if name in whole:
            torch.testing.assert_close(weight, whole[name])


def test_a_student_that_is_its_teacher_learns_nothing_from_it(tmp_path, teacher, dataset):
    got = train(tmp_path / "run", teacher, dataset, "--distillation.weight", "1", "--max_steps", "1",
                "--distillation.hidden", "1", "--distillation.relations", "1")  # fmt: skip
    assert got == pytest.approx([0.0], abs=1e-5)


def test_without_a_teachers_weight_it_is_plain_fine_tuning(tmp_path, teacher, dataset):
    got = train(tmp_path / "run", teacher, dataset, "--distillation.weight", "0")
    sft.main(config.parse(sft.Config, words(tmp_path / "sft", teacher, dataset, "--tuning.name", "full")))
    assert got == losses(tmp_path / "sft")
    assert json.loads((tmp_path / "run/distillation.json").read_text())["teacher_flops"] == 0


def test_evaluations_measure_the_labels_alone(tmp_path, teacher, dataset):
    more = ["--data.eval", str(dataset), "--max_steps", "1", "--optim.lr", "1e-12"]
    train(tmp_path / "one", teacher, dataset, *CUT, *more)
    train(tmp_path / "two", teacher, dataset, *CUT, *more, "--distillation.weight", "0")
    assert losses(tmp_path / "one", "eval") == pytest.approx(losses(tmp_path / "two", "eval"))
    assert losses(tmp_path / "one") != pytest.approx(losses(tmp_path / "two"))


@pytest.mark.parametrize("way", ["insides", "scheduled", "stored"])
@pytest.mark.parametrize("step", [1, 4])
def test_resuming_after_any_step_ends_in_the_same_bits(way, step, tmp_path, teacher, dataset):
    ways = {**WAYS, "stored": [*CUT, "--distillation.answers", str(tmp_path / "answers"), "--distillation.k", "5"]}
    more = [*ways[way], "--checkpoint.every", "1", "--checkpoint.keep", "99"]
    whole = train(tmp_path / "whole", teacher, dataset, *more)
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    for later in range(step + 1, 7):  # as if killed after `step`
        shutil.rmtree(tmp_path / "parts" / "checkpoints" / f"step-{later:08d}")
    shutil.rmtree(tmp_path / "parts" / "model")
    assert train(tmp_path / "parts", teacher, dataset, *more, "--resume") == whole
    a, b = trained(tmp_path / "whole"), trained(tmp_path / "parts")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_stored_answers_of_the_whole_vocabulary_train_as_the_teacher_does(tmp_path, teacher, dataset):
    more = ["--distillation.answers", str(tmp_path / "answers"), "--distillation.k", "400"]
    by_store = train(tmp_path / "stored", teacher, dataset, *CUT, *more)
    assert by_store == pytest.approx(train(tmp_path / "asked", teacher, dataset, *CUT), rel=1e-5)
    a, b = trained(tmp_path / "stored"), trained(tmp_path / "asked")
    assert all(torch.allclose(a[n], b[n], atol=1e-4) for n in a if n.startswith("weights."))


def test_a_killed_call_for_answers_goes_on_and_asks_nothing_twice(tmp_path, teacher, dataset, monkeypatch):
    more = [*CUT, "--distillation.answers", str(tmp_path / "answers"), "--distillation.k", "5", "--max_steps", "1"]
    monkeypatch.setattr(stored, "TOKENS", 300)
    asked, ask = [], stored.ask

    def killed(data, rows, *args):
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.append(rows)
        return ask(data, rows, *args)

    monkeypatch.setattr(stored, "ask", killed)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", teacher, dataset, *more)
    assert not (tmp_path / "answers").exists()
    monkeypatch.setattr(stored, "ask", lambda data, rows, *args: asked.append(rows) or ask(data, rows, *args))
    got = train(tmp_path / "run", teacher, dataset, *more)
    assert [row for rows in asked for row in rows] == list(range(40))
    assert not list(tmp_path.glob(".answers*"))
    monkeypatch.setattr(stored, "TOKENS", 65_536)
    assert got == train(tmp_path / "at_once", teacher, dataset, *more[:3], str(tmp_path / "others"), *more[4:])
    assert store.info(tmp_path / "answers")["tokens"] > 300 * 3
    monkeypatch.setattr(stored, "ask", lambda *args: pytest.fail("asked again"))
    train(tmp_path / "again", teacher, dataset, *more)


def test_a_teacher_of_another_width_teaches_through_matrices_that_are_not_saved(
    tmp_path, teacher, dataset, tiny_folder
):
    small = save_model(tmp_path / "small", tiny_folder, hidden_size=16, intermediate_size=32, num_hidden_layers=2)
    more = ["--distillation.teacher", str(teacher), "--distillation.hidden", "1", "--distillation.relations", "1"]
    got = train(tmp_path / "run", small, dataset, *more, "--distillation.projection", "--distillation.weight", "1")
    assert got[-1] < got[0]
    before, after = trained(tmp_path / "run"), load_file(tmp_path / "run" / "model" / "model.safetensors")
    matrices = [name for name in before if name.startswith("weights.distillation.")]
    assert len(matrices) == 2
    assert not [name for name in after if "distillation" in name]
    assert len(load_model(str(tmp_path / "run" / "model")).model.layers) == 2


@pytest.mark.parametrize("way", ["stored", "projected"])
def test_two_processes_give_the_losses_of_one(way, tmp_path, teacher, dataset, tiny_folder):
    small = save_model(tmp_path / "small", tiny_folder, hidden_size=16, intermediate_size=32, num_hidden_layers=2)
    more = ["--distillation.teacher", str(teacher), "--distillation.until", "0.5"]
    if way == "projected":
        more += ["--distillation.hidden", "1", "--distillation.projection"]
    stores = {n: ["--distillation.answers", str(tmp_path / f"answers{n}")] * (way == "stored") for n in (1, 2)}
    one = train(tmp_path / "one", small, dataset, *more, *stores[1])
    two = processes.run(train, 2, tmp_path / "two", small, dataset, *more, *stores[2])[0]
    assert one == pytest.approx(two, rel=1e-4)


def test_what_the_teacher_cost_is_counted(tmp_path, teacher, dataset):
    train(tmp_path / "run", teacher, dataset, *CUT, "--distillation.until", "0.5")
    cost = json.loads((tmp_path / "run/distillation.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").open()]
    assert cost["student_tokens"] == sum(line["tokens"] for line in lines)
    assert cost["teacher_tokens"] == sum(line["tokens"] for line in lines if line["step"] <= 3)
    assert 0 < cost["teacher_flops"] < cost["student_flops"]
    assert cost["answers_seconds"] == 0
    train(tmp_path / "stored", teacher, dataset, *CUT, "--distillation.answers", str(tmp_path / "answers"))
    assert json.loads((tmp_path / "stored/distillation.json").read_text())["answers_seconds"] > 0


def test_a_teacher_that_is_asked_no_more_is_not_asked(tmp_path, teacher, dataset, monkeypatch):
    calls, logits = [], teacher_module.logits
    monkeypatch.setattr(teacher_module, "logits", lambda *args: calls.append(1) or logits(*args))
    train(tmp_path / "run", teacher, dataset, *CUT, "--distillation.until", "0.5", "--data.packs_per_micro_batch", "3")
    assert len(calls) == 3


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--student.blocks", "4"], "has 3 blocks"),
        (["--student.blocks", "0"], "has 3 blocks"),
        (["--distillation.temperature", "0"], r"distillation\.temperature 0\.0"),
        (["--distillation.weight", "1.5"], r"distillation\.weight"),
        (["--distillation.until", "0"], r"distillation\.until"),
        (["--student.blocks", "2", "--tuning.name", "lora"], r"tuning\.name full"),
        (["--distillation.relations", "1", "--distillation.relation_heads", "7"], "does not divide"),
        (["--distillation.hidden", "1", "--distillation.answers", "ANSWERS"], "hold no hidden states"),
        (["--distillation.answers", "ANSWERS", "--distillation.k", "401"], "vocabulary has 400 tokens"),
        (["--distillation.answers", "ANSWERS", "--distillation.k", "0"], "at least 1"),
    ],
)  # fmt: skip
def test_what_could_not_teach_is_refused(more, message, tmp_path, teacher, dataset):
    more = [str(tmp_path / "answers") if word == "ANSWERS" else word for word in more]
    with pytest.raises(ConfigError, match=message):
        train(tmp_path / "run", teacher, dataset, *more)
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "answers").exists()


def test_a_width_that_differs_is_refused_without_a_projection(tmp_path, teacher, dataset, tiny_folder):
    small = save_model(tmp_path / "small", tiny_folder, hidden_size=16, intermediate_size=32)
    with pytest.raises(ConfigError, match=r"student have 32 numbers, the teacher's 16; set distillation\.projection"):
        train(tmp_path / "run", teacher, dataset, "--distillation.teacher", str(small), "--distillation.hidden", "1")


def test_another_vocabulary_is_refused_with_the_first_token_that_differs(tmp_path, teacher, dataset, tiny_folder):
    other = save_model(tmp_path / "other", tiny_folder)
    spec = json.loads((other / "tokenizer.json").read_text())
    by_id = {number: word for word, number in spec["model"]["vocab"].items()}
    spec["model"]["vocab"] |= {by_id[300]: 301, by_id[301]: 300}
    (other / "tokenizer.json").write_text(json.dumps(spec))
    with pytest.raises(ConfigError) as error:
        train(tmp_path / "run", teacher, dataset, "--distillation.teacher", str(other))
    said = str(error.value)
    assert str(other) in said
    assert str(teacher) in said
    assert f"token 300 is {by_id[301]!r} there and {by_id[300]!r} here" in said


def test_a_tokenizer_that_splits_otherwise_is_refused(tmp_path, teacher, dataset, tiny_folder):
    other = save_model(tmp_path / "other", tiny_folder)
    spec = json.loads((other / "tokenizer.json").read_text())
    spec["pre_tokenizer"]["add_prefix_space"] = True
    (other / "tokenizer.json").write_text(json.dumps(spec))
    with pytest.raises(ConfigError, match="splits texts into them in another way"):
        train(tmp_path / "run", teacher, dataset, "--distillation.teacher", str(other))


@pytest.mark.parametrize("changed", ["dataset", "teacher", "k", "temperature"])
def test_stored_answers_to_something_else_are_refused(changed, tmp_path, teacher, dataset, tiny_folder):
    more = [*CUT, "--distillation.answers", str(tmp_path / "answers"), "--distillation.k", "5", "--max_steps", "1"]
    train(tmp_path / "run", teacher, dataset, *more)
    if changed == "dataset":
        (tmp_path / "rows").mkdir()
        dataset = converted(tmp_path / "rows", teacher, "answer")
    elif changed == "teacher":
        more += ["--distillation.teacher", str(save_model(tmp_path / "other", tiny_folder))]
    else:
        more += [f"--distillation.{changed}", "3"]
    before = (tmp_path / "answers/nlpft.json").read_bytes()
    with pytest.raises(ConfigError, match=f"answers to something else.*{changed} .* there"):
        train(tmp_path / "again", teacher, dataset, *more)
    assert (tmp_path / "answers/nlpft.json").read_bytes() == before
