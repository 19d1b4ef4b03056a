#!/usr/bin/env bash
# What a GPU that is at hand for minutes can tell, most important first; every row is written as soon as it is measured, and the run may be stopped at any time.
#
#   benchmarks/gpu.sh --pack        here, once: wheels of what PyTorch's usual environment lacks, for Python 3.12 on x86-64, into .gpu/wheels
#   benchmarks/gpu.sh               on the GPU's machine, in the root of this repository: at most nine minutes, rows in $OUT (or .gpu/results)
#   benchmarks/gpu.sh --rehearse    the same on the CPU, with the smallest sizes
#
# Needs PyTorch, Lightning, SciPy, scikit-learn, matplotlib and safetensors there, and no network. Other options go to benchmarks/gpu.py.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${1:-}" = "--pack" ]; then
    mkdir -p .gpu/wheels
    for name in ProDy biopython gemmi jsonargparse mrcfile roma; do
        version=$(sed -n "s/^$name==//p" cryolearn/engine-requirements.txt)
        python3 -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp --platform manylinux_2_35_x86_64 \
            --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
            --dest .gpu/wheels "$name==$version"
    done
    ls -l .gpu/wheels
    exit
fi

if ! python3 -c "import prody, gemmi, jsonargparse, mrcfile, roma" 2>/dev/null && ls .gpu/wheels/*.whl >/dev/null 2>&1; then
    site=$(mktemp -d)
    python3 -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --target "$site" .gpu/wheels/*.whl
    export PYTHONPATH="$site:$PWD${PYTHONPATH:+:$PYTHONPATH}"
fi
export PYTHONPATH="${PYTHONPATH:-$PWD}" CRYOLEARN_RESULTS="${OUT:-$PWD/.gpu/results}" PYTHONUNBUFFERED=1
mkdir -p "$CRYOLEARN_RESULTS"
exec python3 benchmarks/gpu.py --work "${TMPDIR:-/tmp}/cryolearn-gpu" "$@"
