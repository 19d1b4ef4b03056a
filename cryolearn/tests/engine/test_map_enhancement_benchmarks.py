"""Pieces of the benchmarks of map enhancement: linear baselines, what is tested on, lists of ids fetched over HTTP."""

from __future__ import annotations

import functools
import http.server
import importlib
import sys
import threading
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from cryolearn.engine.imaging.map_shells import Shells, half_fsc
from cryolearn.engine.io.maps import Map

from .map_cases import polymer

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"

pytestmark = pytest.mark.skipif(not BENCHMARKS.exists(), reason="needs the source tree")


def module(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    sys.modules.pop(name, None)
    return importlib.import_module(name)


def test_plain_sharpening_takes_a_blur_off(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = module("_superres_maps", monkeypatch)
    random = np.random.default_rng(0).standard_normal((40, 40, 40)).astype(np.float32)
    sharp = maps.sharpened(Map(random, 1.0), 0.0, 2.5)  # nothing finer than 2.5 Å
    blurred = maps.sharpened(sharp, -50.0, 2.1)
    again = maps.sharpened(blurred, 50.0, 2.1)
    assert np.abs(again.data - sharp.data).max() < 1e-3 * np.abs(sharp.data).max() < np.abs(blurred.data - sharp.data).max()
    matched = maps.amplitude_matched(blurred, sharp, 2.1)
    assert np.corrcoef(matched.data.ravel(), sharp.data.ravel())[0, 1] > 0.999


def test_nothing_that_is_tested_on_is_learned_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = module("_superres_data", monkeypatch)
    folder = tmp_path / "models"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number:04d}.pdb.gz").write_bytes(b"")
    unseen = data.unseen_models(tmp_path)
    assert len(unseen) == 24 and unseen == data.unseen_models(tmp_path)
    assert set(unseen) <= set(data.excluded_models(tmp_path))
    (folder / "later.pdb.gz").write_bytes(b"")
    assert len(set(unseen) & set(data.unseen_models(tmp_path))) >= 23  # a new model takes the place of one at most


def test_simulated_half_maps_are_of_the_resolution_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    simulated = module("superres_simulated_maps", monkeypatch)
    halves, whole = simulated.half_maps(polymer("1ubi"), 4.0, 1)
    shells = Shells(whole.data.shape, (1.0,) * 3)
    curve = half_fsc(shells, halves[0].data, halves[1].data, np.ones_like(whole.data))
    at = np.interp(1 / 4.0, shells.frequency, curve)
    assert abs(at - 0.143) < 0.08 and np.interp(1 / 6.0, shells.frequency, curve) > 0.5 and np.interp(1 / 2.5, shells.frequency, curve) < 0.1
    power = shells.mean(np.abs(np.fft.rfftn(whole.data)) ** 2)
    assert power[shells.frequency > 1 / 3.5].max() < 1e-3 * power[shells.frequency < 1 / 6].mean()  # nothing finer than its resolution


def test_ids_are_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fetch = module("superres_fetch", monkeypatch)
    archive = tmp_path / "archive"
    for path in ("emdb/structures/EMD-3488/map/emd_3488.map.gz", "emdb/structures/EMD-3488/other/emd_3488_half_map_1.map.gz",
                 "emdb/structures/EMD-3488/other/emd_3488_half_map_2.map.gz", "pdb/data/structures/divided/mmCIF/ni/5ni1.cif.gz"):
        (archive / path).parent.mkdir(parents=True, exist_ok=True)
        (archive / path).write_bytes(path.encode())
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(archive))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    listed = tmp_path / "ids.txt"
    listed.write_text("# haemoglobin\nEMD-3488 5NI1\nemd-3488\n")
    words = [str(listed), "--to", str(tmp_path / "data"), "--halves", "--archive", address]
    try:
        fetch.main(words)
        assert (tmp_path / "data" / "models" / "5ni1.cif.gz").read_bytes() == b"pdb/data/structures/divided/mmCIF/ni/5ni1.cif.gz"
        assert len(list((tmp_path / "data" / "maps").iterdir())) == 3
        capsys.readouterr()
        fetch.main(words)
        assert capsys.readouterr().out.count("was there") == 4
        listed.write_text("4AKE\n")
        with pytest.raises(SystemExit, match=r"answered 404.*is the id right"):
            fetch.main(words)
    finally:
        server.shutdown()
        server.server_close()
    with pytest.raises(SystemExit, match="cannot be reached"):
        fetch.main(words)
    for text, message in (("hello\n", "neither an EMDB id"), ("../../etc 4AKE\n", "neither an EMDB id"), ("# nothing\n", "names no ids")):
        listed.write_text(text)
        with pytest.raises(SystemExit, match=message):
            fetch.main(words)
