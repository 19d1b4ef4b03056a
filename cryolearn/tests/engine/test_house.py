"""The counters of benchmarks/house.py on small trees: what they are to find, and what they are not to."""

from __future__ import annotations

import importlib
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "benchmarks"
if not (FOLDER / "_house.py").exists():
    pytest.skip("benchmarks are not part of the wheel", allow_module_level=True)

FOURTEEN = "\n".join(f"    {name} = first.{name}(second[{index}]) + {index}" for index, name in enumerate("abcdefghijklmn"))


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("_house")


def tree(folder: Path, **files: str) -> Path:
    """Modules ``engine/NAME.py``; two underscores in a name are a folder."""
    for name, text in files.items():
        path = folder / "cryolearn" / "engine" / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return folder


# (counter, text in which it finds one place, text in which it finds none)
CASES = {
    "fourier_bands": ("class B:\n    kx: int\n    ring: int\n", "class B:\n    kx: int\n    name: str\n"),
    "slice_extractions": (
        """
        class Map:
            def __init__(self, volume):
                self.table = slice_channels(volume)
            def slices(self, plane, rotation):
                return sample_half_volume(self.table, plane @ rotation)
        """,
        """
        class Map:
            def __init__(self, volume):
                self.table = slice_channels(volume)
            def average(self, plane):
                return sample_half_volume(self.table, plane)
        """,
    ),
    "shift_grids": (
        "def shift_grid(n):\n    line = torch.arange(-n, n + 1)\n    return torch.cartesian_prod(line, line)\n",
        "def pose_grid(n):\n    line = torch.arange(-n, n + 1)\n    return torch.cartesian_prod(line, line)\n",
    ),
    "random_starts": (
        "def start():\n    random_rotations(5)\n    sums.numerator = (1 - F) * sums.numerator + F * fresh.numerator\n",
        "def start():\n    random_rotations(5)\n    sums.numerator = (1 - F) * sums.numerator + G * fresh.numerator\n",
    ),
    "fsc_crossings": (
        "def resolution(curve):\n    return torch.nonzero(curve[1:] < 0.143)[0]\n",
        "def resolution(curve):\n    return torch.nonzero(curve[1:] > 0.143)[0]\n",
    ),
    "pixel_tolerances": (
        "SAME = 1e-3\ndef check(a, b):\n    return abs(a.pixel_size_angst / b.pixel_size_angst - 1) < SAME\n",
        "SAME = 1e-3\ndef check(a, b):\n    return abs(a.norm - 1) < SAME\n",
    ),
    "renames": (
        "import os\ndef write(path):\n    os.replace(path + '.part', path)\n",
        "def name(part):\n    return part.replace('_', ' ')\n",
    ),
    "record_mechanisms": (
        "def save(path, done):\n    np.savez(path, done=done)\ndef load(path):\n    return np.load(path)['done']\n",
        "def save(path, values):\n    np.savez(path, values=values)\ndef load(path):\n    return np.load(path)['values']\n",
    ),
    "positional_calls": ("f(1, 2, 3, 4, 5, 6, 7)\n", "f(1, 2, 3, 4, 5, 6, g=7)\nprint(1, 2, 3, 4, 5, 6, 7)\n"),
    "long_signatures": (
        "def f(a, b, c, d, e, *, f, g, h, i): ...\n",
        "class C:\n    def f(self, a, b, c, d, e, f, g, h): ...\ndef _f(a, b, c, d, e, f, g, h, i): ...\n",
    ),
    "long_modules": ("x = 1\n" * 301, "x = 1\n" * 300),
    "same_shape": (
        f"def one(first, second):\n{FOURTEEN}\n    return a\ndef two(third, second):\n{FOURTEEN.replace('first', 'third')}\n    return b\n",
        f"def one(first, second):\n{FOURTEEN}\ndef two():\n" + "    while True:\n        yield lambda: [x for x in range(3) if not x]\n" * 7,
    ),
}


@pytest.mark.parametrize("counter", CASES)
def test_a_counter_finds_what_it_counts(house: ModuleType, tmp_path: Path, counter: str) -> None:
    count = getattr(house, counter)
    one, none = CASES[counter]
    assert len(count(house.modules_of(tree(tmp_path / "one", module=one)))) == 1
    assert count(house.modules_of(tree(tmp_path / "none", module=none))) == []


def test_concepts_are_counted_in_each_module_and_tests_are_not_counted(house: ModuleType, tmp_path: Path) -> None:
    text = CASES["fourier_bands"][0]
    folder = tree(tmp_path, one=text, two__three=text)
    tests = folder / "cryolearn" / "tests" / "test_band.py"
    tests.parent.mkdir()
    tests.write_text(text)
    assert [place.split(":")[0] for place in house.fourier_bands(house.modules_of(folder))] == ["cryolearn/engine/one.py", "cryolearn/engine/two/three.py"]


def test_atomic_is_where_files_are_renamed(house: ModuleType, tmp_path: Path) -> None:
    assert house.renames(house.modules_of(tree(tmp_path, io__atomic=CASES["renames"][0]))) == []


def test_a_record_kept_with_the_mechanism_of_all_is_none_of_its_own(house: ModuleType, tmp_path: Path) -> None:
    text = "from ..io.records import RunRecord\n" + CASES["record_mechanisms"][0]
    assert house.record_mechanisms(house.modules_of(tree(tmp_path, module=text))) == []


def test_a_shell_below_a_threshold_is_found_in_a_comprehension(house: ModuleType, tmp_path: Path) -> None:
    text = "def shell(curve, threshold):\n    return next((n for n in range(len(curve)) if not curve[n] >= threshold), len(curve))\n"
    assert len(house.fsc_crossings(house.modules_of(tree(tmp_path / "one", module=text)))) == 1
    assert house.fsc_crossings(house.modules_of(tree(tmp_path / "none", module=text.replace("threshold", "limit")))) == []


def test_a_function_that_samples_rotated_points_extracts_slices(house: ModuleType, tmp_path: Path) -> None:
    text = "def sample_slices(table, points, rotation):\n    return sample_half_volume(table, points @ rotation)\n"
    assert len(house.slice_extractions(house.modules_of(tree(tmp_path, module=text)))) == 1


def test_lines_of_code_are_without_blank_lines_comments_and_docstrings(house: ModuleType, tmp_path: Path) -> None:
    text = '"""Title.\n\nMore.\n"""\n\n# a comment\nx = """two\nlines"""  # and one\n\n\ndef f():\n    """Text."""\n    return x\n'
    modules = house.modules_of(tree(tmp_path, module=text))
    assert house.lines(modules) == 13
    assert house.code_lines(modules) == 4  # x over two lines, def, return


def test_a_base_revision_is_read_from_git(house: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (FOLDER.parent / ".git").exists():
        pytest.skip("needs the git repository")
    script = importlib.import_module("house")
    modules = house.modules_of(script.tree_of("HEAD", tmp_path))
    assert "cryolearn/engine/io/maps.py" in {module.name for module in modules}


def test_no_call_has_more_than_six_positional_arguments(house: ModuleType) -> None:
    """What comes behind the first arguments is named at the call; functions that take any number of arguments are left out."""
    assert house.positional_calls(house.modules_of(FOLDER.parent)) == []
