"""`nlpft list` and `nlpft copy`: what there is to choose, and a recipe to edit."""

import pytest

from nlpft import cli, plugins, recipes_dir
from nlpft.commands import list as listing


def test_every_plugin_is_listed_with_its_first_docstring_line(capsys):
    assert cli.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for kind in set(listing.KINDS) - {"recipes", "configs"}:
        for name in plugins.names(kind):
            assert any(line.split() == [name, *plugins.summary(kind, name).split()] for line in lines), (kind, name)
    for name in (*recipes_dir.recipe_names(), *recipes_dir.config_names()):
        assert any(line.split() == [name, *recipes_dir.summary(name).split()] for line in lines), name


def test_every_folder_of_plugins_is_a_kind():
    for init in plugins.ROOT.glob("*/__init__.py"):
        if "one file is one" in init.read_text(encoding="utf-8").lower():
            assert init.parent.name in listing.KINDS


def test_kinds_without_plugins_are_left_out(capsys, monkeypatch):
    monkeypatch.setattr(plugins, "names", lambda kind: ["lora"] if kind == "tuning" else [])
    assert listing.run(listing.Config()) == 0
    out = capsys.readouterr().out
    assert "tuning:" in out
    assert "formats:" not in out


def test_one_kind_is_listed_alone(capsys):
    assert cli.main(["list", "tuning"]) == 0
    out = capsys.readouterr().out
    assert "lora" in out
    assert "sharegpt" not in out
    assert cli.main(["list", "tunin"]) == 2
    assert "did you mean 'tuning'" in capsys.readouterr().err


def test_a_terminal_gets_lines_that_fit():
    found = {"tuning": {"lora": "words " * 40}, "recipes": {"a_long_name": "short"}}
    lines = [text.plain for text in listing.lines(found, 60)]
    entries = [line for text in lines for line in text.splitlines() if line.startswith("  ")]
    assert len(entries) > 4
    assert max(map(len, entries)) <= 60


@pytest.mark.parametrize("name", [*recipes_dir.recipe_names(), *recipes_dir.config_names()])
def test_a_copy_is_equal_to_what_ships(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["copy", name]) == 0
    [copied] = tmp_path.iterdir()
    original = recipes_dir.recipes_dir() / (name if name.endswith(".yaml") else f"{name}.py")
    assert copied.name == original.name
    assert copied.read_bytes() == original.read_bytes()


def test_a_copy_goes_into_a_folder_or_a_file(tmp_path):
    assert cli.main(["copy", "sft", str(tmp_path / "new")]) == 0
    assert cli.main(["copy", "sft.py", str(tmp_path / "mine.py")]) == 0
    assert (tmp_path / "new" / "sft.py").read_bytes() == (tmp_path / "mine.py").read_bytes()


def test_an_edited_copy_is_not_overwritten_unless_told_to(tmp_path, capsys):
    (tmp_path / "sft.py").write_text("mine")
    assert cli.main(["copy", "sft", str(tmp_path)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "sft.py").read_text() == "mine"
    assert cli.main(["copy", "sft", str(tmp_path), "--overwrite"]) == 0
    assert (tmp_path / "sft.py").read_text() != "mine"


def test_what_is_no_recipe_is_refused_with_a_suggestion(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, said in (("stf", "did you mean 'sft'"), ("../pyproject.toml", "unknown recipe")):
        assert cli.main(["copy", name]) == 2
        assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_installed_package_finds_its_recipes_inside(tmp_path, monkeypatch):
    for place in (tmp_path / "nlpft" / "recipes", tmp_path / "recipes"):
        place.mkdir(parents=True)
    monkeypatch.setattr(recipes_dir, "PLACES", (tmp_path / "nlpft" / "recipes", tmp_path / "recipes"))
    assert recipes_dir.recipes_dir() == tmp_path / "nlpft" / "recipes"
    (tmp_path / "nlpft" / "recipes").rmdir()
    assert recipes_dir.recipes_dir() == tmp_path / "recipes"
