"""Does a test's verdict hang on the processor or on a seed? All tests that train or search, under several instruction sets, numbers of threads and seeds.

The first setting runs the whole suite and notes which tests train or search (``_test_hook.SEARCHES``); all tests of their files are run under the others.
Each setting runs in parts, and finished parts of the same sources are kept in the folder of work. An instruction set that the processor lacks changes
nothing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from _results import parser, record

ROOT = Path(__file__).resolve().parent.parent
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "OPENBLAS_CORETYPE": "Haswell", "ONEDNN_MAX_CPU_ISA": "AVX2"}
SSE = {
    "ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "OPENBLAS_CORETYPE": "Nehalem", "ONEDNN_MAX_CPU_ISA": "SSE41",
    "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX",
}

PARTS = 6


@dataclass
class Setting:
    """How a processor computes, with how many threads a process, and what is added to the seeds."""

    name: str
    variables: dict[str, str] = field(default_factory=dict)
    threads: int = 1
    seed: int = 0


SETTINGS = (
    Setting("as it is"),
    Setting("AVX2, two threads", AVX2, threads=2),
    Setting("SSE 4.2", SSE),
    Setting("seeds + 1", seed=1),
    Setting("SSE 4.2, seeds + 2", SSE, seed=2),
    Setting("AVX2, two threads, seeds + 3", AVX2, threads=2, seed=3),
)


def main() -> None:
    parse = parser(__doc__ or "")
    parse.add_argument("--settings", type=int, nargs="+", default=list(range(1, len(SETTINGS) + 1)), help="numbers of the settings to run, 1 first")
    options = parse.parse_args()
    work = options.work.resolve() / "robustness"
    work.mkdir(parents=True, exist_ok=True)
    state = subprocess.run(["git", "rev-parse", "HEAD:cryolearn"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()[:12]
    trace, failed, tried = work / f"{state}.trace", {}, []
    folder = ROOT / "cryolearn" / "tests"
    everything = [str(path.relative_to(ROOT)) for side in ("scipion", "engine") for path in sorted((folder / side).glob("test_*.py"))]
    for number in sorted({1, *options.settings}):
        setting = SETTINGS[number - 1]
        files = everything if number == 1 else sorted({test.split("::")[0] for test in listed(trace)}, key=everything.index)
        reports = [work / f"{state}-{number}-{part}.xml" for part in range(PARTS)]
        for part, report in enumerate(reports):
            if not report.exists():
                print(f"setting {number}, part {part + 1} of {PARTS}: {setting.name}", flush=True)
                with hooked():
                    run(setting, files[part::PARTS], report, trace if number == 1 else None)
        failed[setting.name] = [name for report in reports for name in failures(report)]
        tried.append(setting.name)
    tests = listed(trace)
    (work / f"{state}.tests.txt").write_text("\n".join(tests) + "\n")
    files = {test.split("::")[0] for test in tests}
    condition = "; ".join(tried)
    broken = [f"{name}: {test}" for name, names in failed.items() for test in names]
    print("\n".join(broken))
    record("house", "tests that train or search", condition="tests that call one of the functions of benchmarks/_test_hook.py", target="listed",
           measured=f"{len(tests)} in {len(files)} files", holds=bool(tests), scale=options.scale)
    record(
        "house",
        "tests that train or search: settings of processor, threads and seeds",
        condition=condition,
        target=">= 6",
        measured=str(len(tried)),
        holds=len(tried) >= 6,
        scale=options.scale,
    )
    record(
        "house",
        "tests that train or search: failures",
        condition=condition,
        target="0",
        measured="; ".join(broken) or "0",
        holds=not broken,
        scale=options.scale,
    )


@contextlib.contextmanager
def hooked() -> Iterator[None]:
    """Have every interpreter of this environment run ``_test_hook.install()`` at its start, as the environment's variables want it."""
    path = Path(sysconfig.get_paths()["purelib"]) / "cryolearn_test_hook.pth"
    path.write_text(
        f"import os, sys; sys.path.append({str(ROOT / 'benchmarks')!r}); "
        "exec('import _test_hook; _test_hook.install()') if 'CRYOLEARN_TEST_SEED' in os.environ else None\n"
    )
    try:
        yield
    finally:
        path.unlink()


def run(setting: Setting, files: list[str], report: Path, trace: Path | None) -> None:
    """Run the tests as ``make test`` does, without its other checks."""
    scipion = ROOT / ".cache" / "scipion"
    environment = {
        **os.environ, **setting.variables, "CRYOLEARN_TEST_SEED": str(setting.seed), "OMP_NUM_THREADS": str(setting.threads),
        "MPLBACKEND": "Agg", "SCIPION_HOME": str(scipion),
        "SCIPION_USER_DATA": str(scipion / "data"), "SCIPION_LOCAL_CONFIG": str(scipion / "config" / "scipion.conf"),
        "SCIPION_HOSTS": str(scipion / "config" / "hosts.conf"), "SCIPION_DOMAIN": "pwem",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    if trace is not None:
        environment["CRYOLEARN_TEST_TRACE"] = str(trace)
    shutil.rmtree(scipion / "data" / "projects", ignore_errors=True)  # as make test does
    words = [sys.executable, "-m", "pytest", "-q", "-n", "4", "--dist", "loadscope", "--no-loadscope-reorder", f"--junitxml={report}.part", *files]
    subprocess.run(words, cwd=ROOT, env=environment, check=False)
    Path(f"{report}.part").rename(report)


def listed(trace: Path) -> list[str]:
    """Tests that call a function of ``SEARCHES`` themselves, or whose fixture is set up by them."""
    return sorted({line.split(" (")[0] for line in trace.read_text().splitlines() if line})


def failures(report: Path) -> list[str]:
    """Names of the tests that failed."""
    cases = ElementTree.parse(report).iter("testcase")
    return [f"{case.get('classname')}.{case.get('name')}" for case in cases if case.find("failure") is not None or case.find("error") is not None]


if __name__ == "__main__":
    main()
