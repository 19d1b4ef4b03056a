"""The commands' dataclasses: one home for defaults, ranges, help; digests that follow what a result depends on."""

from __future__ import annotations

import dataclasses
import json
import typing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryolearn.engine.__main__ import _load
from cryolearn.engine.commands import COMMANDS
from cryolearn.engine.config import RunConfig, check_config, default_of, digest_config, digest_file, fields_of, load_config, param, save_config, types_of
from cryolearn.engine.exceptions import InputError

ALLOWED_TYPES = (bool, int, float, str, typing.List[int], typing.List[float], typing.List[str])
CONFIGS = sorted({_load(place.config) for place in COMMANDS.values()}, key=lambda c: c.__name__)
BOUNDED = [
    (config, name)
    for config in CONFIGS
    for name, field in fields_of(config).items()
    if types_of(config)[name] in (int, float) and (field.metadata["low"] is not None or field.metadata["high"] is not None)
]


@dataclasses.dataclass
class BakeConfig(RunConfig):
    """Bake."""

    flour: str = param("", "Flour.", path=True)
    minutes: float = param(10.0, "Time.", unit="min", low=1, high=60)
    sheets: int = param(1, "Sheets.", low=1, affects_result=False)
    layers: typing.List[int] = param([1, 2], "Layers.")


@pytest.mark.parametrize("config", CONFIGS)
def test_each_parameter_is_described_and_its_default_is_allowed(config: type[Any]) -> None:
    assert config.__doc__ and config.__doc__.splitlines()[0].endswith(".")
    for name, field in fields_of(config).items():
        assert field.metadata["help"].strip(), f"{name} has no help"
        assert types_of(config)[name] in ALLOWED_TYPES, f"{name} has a type that forms and command line do not know"
        for end in ("_angst", "_deg", "_kv", "_mm"):
            if name.endswith(end):
                assert field.metadata["unit"], f"{name} names a unit but does not state it"
    check_config(config())


@pytest.mark.parametrize(("config", "name"), BOUNDED)
def test_a_number_beyond_its_range_is_refused_by_name(config: type[Any], name: str) -> None:
    field = fields_of(config)[name]
    for bound, step in ((field.metadata["low"], -1), (field.metadata["high"], 1)):
        if bound is not None:
            with pytest.raises(InputError, match=rf"Parameter {name} is .*{bound:g}".replace("+", r"\+")):
                check_config(config(**{name: types_of(config)[name](bound + step)}))
            check_config(config(**{name: types_of(config)[name](bound)}))


@given(minutes=st.floats(allow_nan=True, allow_infinity=True))
def test_range_check_holds_for_every_float(minutes: float) -> None:
    if 1 <= minutes <= 60:
        check_config(BakeConfig(minutes=minutes))
    else:
        with pytest.raises(InputError, match="minutes"):
            check_config(BakeConfig(minutes=minutes))


@given(layers=st.lists(st.integers(-(2**53), 2**53)), minutes=st.floats(1, 60), output=st.text())
def test_parameters_survive_json(tmp_path_factory: pytest.TempPathFactory, layers: list[int], minutes: float, output: str) -> None:
    config = BakeConfig(layers=layers, minutes=minutes, output=output)
    path = str(tmp_path_factory.mktemp("json") / "c.json")
    save_config(config, path)
    assert load_config(BakeConfig, path) == config


def test_default_lists_are_not_shared() -> None:
    default_of(BakeConfig, "layers").append(3)
    BakeConfig().layers.append(4)
    assert default_of(BakeConfig, "layers") == [1, 2] == BakeConfig().layers


def test_digest_follows_parameters_and_file_content_but_not_hardware_or_place(tmp_path: Path) -> None:
    flour, other = tmp_path / "a", tmp_path / "b"
    flour.write_bytes(b"rye")
    other.write_bytes(b"rye")
    base = BakeConfig(flour=str(flour))
    digest = digest_config(base)
    for change in (
        {"flour": str(other)}, {"output": "elsewhere"}, {"use_gpu": True}, {"gpu_list": "3"}, {"threads": 4}, {"sheets": 2},
    ):  # fmt: skip
        assert digest_config(dataclasses.replace(base, **change)) == digest, change
    for change in ({"minutes": 11.0}, {"layers": [2, 1]}, {"flour": ""}):
        assert digest_config(dataclasses.replace(base, **change)) != digest, change
    flour.write_bytes(b"rice")
    assert digest_config(base) != digest


def test_digest_of_a_big_file_sees_both_ends_and_the_size(tmp_path: Path) -> None:
    path = tmp_path / "big"
    content = bytearray(9 << 20)
    digests = set()
    for edit in ((), (0,), (len(content) - 1,)):
        changed = bytearray(content)
        for place in edit:
            changed[place] = 1
        path.write_bytes(changed)
        digests.add(digest_file(str(path)))
    path.write_bytes(content + b"\0")
    digests.add(digest_file(str(path)))
    assert len(digests) == 4


def test_digest_of_a_folder_follows_names_and_content(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("{}")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "w").write_bytes(b"1")
    digests = [digest_file(str(tmp_path))]
    (tmp_path / "sub" / "w").write_bytes(b"2")
    digests.append(digest_file(str(tmp_path)))
    (tmp_path / "sub" / "w").rename(tmp_path / "sub" / "v")
    digests.append(digest_file(str(tmp_path)))
    assert len(set(digests)) == 3


def test_saved_parameters_are_plain_json(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    save_config(BakeConfig(), str(path))
    assert json.loads(path.read_text())["minutes"] == 10.0
