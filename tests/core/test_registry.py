import sys

import pytest
import torch

from slap import Objective, register
from slap.core.errors import UserError
from slap.core.registry import add_kind, arguments, build, find, kinds, load_module, plugins


class Answer(Objective):
    """An objective that is registered only inside a test."""

    def __init__(self, value: float = 42.0):
        super().__init__()
        self.value = value

    def forward(self, views):
        return torch.tensor(self.value)


@pytest.fixture
def answer(monkeypatch):
    monkeypatch.setattr("slap.core.registry._plugins", {kind: plugins(kind) for kind in kinds()})
    return register("answer")(Answer)


def test_a_registered_name_builds_with_its_arguments(answer):
    assert build("objective", "answer", {}).value == 42.0
    assert build("objective", "answer", {"value": 7.0}).value == 7.0


def test_an_unknown_name_lists_the_valid_ones_and_the_nearest(answer):
    with pytest.raises(ValueError, match=r"'anser'; did you mean 'answer'\? valid are: answer, .*contrastive"):
        build("objective", "anser", {})


def test_an_unknown_argument_lists_the_valid_ones(answer):
    with pytest.raises(ValueError, match=r"'answer' has no argument 'valu'; did you mean 'value'\? valid are: value"):
        build("objective", "answer", {"valu": 1})


def test_a_name_cannot_be_taken_twice(answer):
    other = type("Other", (Answer,), {})
    with pytest.raises(ValueError, match=r"registered already, by .*Answer"):
        register("answer")(other)


def test_the_same_class_may_register_again_as_a_reload_does(answer):
    assert register("answer")(Answer) is Answer


def test_only_plugins_register():
    with pytest.raises(TypeError, match="must derive from"):
        register("x")(torch.nn.Linear)


def test_the_module_of_a_base_class_adds_its_kind(monkeypatch):
    monkeypatch.setattr("slap.core.registry._kinds", dict(kinds()))
    monkeypatch.setattr("slap.core.registry._plugins", {kind: plugins(kind) for kind in kinds()})

    class Spice:
        def __init__(self, heat: int):
            self.heat = heat

    class Mixin:
        def __init__(self, heat: int = 3):
            self.heat = heat

    with pytest.raises(TypeError, match="must derive from one of AudioEncoder, "):
        register("chili")(Spice)
    add_kind("spice", Spice, plural="spices of the world", reserved={"taste"})
    assert kinds()["spice"].plural == "spices of the world"
    chili = register("chili")(type("Chili", (Spice,), {}))
    assert find("spice", "chili") is chili
    assert list(arguments(chili)) == ["heat"]
    assert arguments(type("Mixed", (Mixin, Spice), {}))["heat"].default == 3
    assert arguments(Answer.__mro__[1]) == {}  # nn.Module's constructor is not an Objective's own
    with pytest.raises(ValueError, match=r"the kind 'spice' is .*Spice already"):
        add_kind("spice", Answer)
    with pytest.raises(ValueError, match=r"no kind 'spise' of plug-ins; did you mean 'spice'\?"):
        plugins("spise")


def test_arguments_must_be_named_and_may_not_shadow_the_specification():
    class Swallows(Answer):
        def __init__(self, **options):
            super().__init__()

    class Weighs(Answer):
        def __init__(self, weight: float = 1.0):
            super().__init__()

    with pytest.raises(TypeError, match=r"must name its arguments instead of `\*\*options`"):
        register("swallows")(Swallows)
    with pytest.raises(TypeError, match="may not have an argument called 'weight'"):
        register("weighs")(Weighs)


def test_a_missing_argument_is_named():
    class Needs(Answer):
        def __init__(self, path: str):
            super().__init__()

    register("needs_for_test")(Needs)
    try:
        with pytest.raises(ValueError, match="'needs_for_test' needs path"):
            build("objective", "needs_for_test", {})
    finally:
        from slap.core.registry import _plugins

        del _plugins["objective"]["needs_for_test"]


def test_a_module_loads_from_a_file_once(tmp_path):
    path = tmp_path / "a_file_of_mine.py"
    path.write_text("marker = object()\n")
    try:
        assert load_module(str(path)) is load_module(str(path))
    finally:
        sys.modules.pop("a_file_of_mine", None)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.py"):
        load_module(str(tmp_path / "nowhere.py"))
    (tmp_path / "torch.py").write_text("")
    with pytest.raises(UserError, match="loaded already"):
        load_module(str(tmp_path / "torch.py"))


def test_a_module_that_fails_leaves_no_half_module_behind(tmp_path):
    path = tmp_path / "fails_half_way.py"
    path.write_text("raise RuntimeError('half way')\n")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="half way"):
            load_module(str(path))
    assert "fails_half_way" not in sys.modules
