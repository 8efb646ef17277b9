"""Every file of a plug-in folder keeps its folder's contract: a new file is tested by being there."""

import dataclasses
import sys
from pathlib import Path

import pytest

from nlpft import plugins
from nlpft.errors import ConfigError

CONTRACT = {
    "formats": ("matches", "parse"),
    "templates": ("CHAT_TEMPLATE", "SPECIAL_TOKENS"),
    "tuning": ("Config", "apply"),
    "objectives": ("Config", "build", "num_targets"),
    "commands": ("run",),
    "metrics": ("KIND", "VALUES", "Metric"),
    "serving": ("check", "write"),
    "samplers": ("Config", "build", "least"),
    "strategies": ("Config", "check", "train"),
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in CONTRACT for name in plugins.names(kind)])
def test_contract(kind, name):
    module = plugins.load(kind, name)
    for attribute in CONTRACT[kind]:
        assert hasattr(module, attribute), f"{kind}/{name}.py lacks {attribute}"
    assert 20 < len(plugins.summary(kind, name)) <= 130
    assert plugins.summary(kind, name) == module.__doc__.partition("\n")[0]
    if hasattr(module, "Config"):
        assert dataclasses.is_dataclass(module.Config)
        assert module.Config.__dataclass_params__.frozen
    if kind in ("tuning", "objectives", "samplers", "strategies"):
        assert module.Config().name == name


def test_every_kind_has_a_plugin():
    for kind in CONTRACT:
        assert plugins.names(kind)


def test_unknown_name_suggests_a_known_one():
    with pytest.raises(ConfigError, match="did you mean 'lora'"):
        plugins.load("tuning", "lorra")


def test_a_dotted_name_loads_the_users_own_module(tmp_path, monkeypatch):
    Path(tmp_path / "mine_pkg").mkdir()
    (tmp_path / "mine_pkg" / "__init__.py").write_text("")
    (tmp_path / "mine_pkg" / "method.py").write_text('"""Mine."""\n')
    monkeypatch.syspath_prepend(tmp_path)
    assert plugins.load("tuning", "mine_pkg.method").__doc__ == "Mine."
    sys.modules.pop("mine_pkg.method")
    with pytest.raises(ConfigError, match="no module"):
        plugins.load("tuning", "mine_pkg.other")
