#!/bin/sh
# Make .venv as requirements.lock says, or leave it when it is so already. "make demo" and "make test" call this.
set -eu
cd "$(dirname "$0")"

hash=$(cat requirements.lock setup.py pyproject.toml cryolearn/__init__.py | sha256sum | cut -c1-16)
stamp=.venv/made-$hash
if [ -e "$stamp" ] && .venv/bin/python -c 'import cryolearn' 2>/dev/null; then
    exit 0
fi

tried=""
suitable() {
    command -v "$1" >/dev/null 2>&1 || return 1
    "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || return 1
    tried="$1"
    "$1" -c 'import ensurepip, sqlite3, tkinter, venv' 2>/dev/null
}

if ! .venv/bin/python -c 'import sys, tkinter; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
    python=""
    for candidate in "${PYTHON:-}" python3.11 /usr/bin/python3.11 /usr/local/bin/python3.11 python3 \
        "${HOME:-/root}"/.pyenv/versions/3.11*/bin/python; do
        if [ -n "$candidate" ] && suitable "$candidate"; then
            python=$candidate
            break
        fi
    done
    if [ -z "$python" ]; then
        if [ -z "$tried" ]; then
            echo "ERROR: Python 3.11 was not found. Install it with:" >&2
        else
            echo "ERROR: $tried lacks tkinter (the screen), venv or ensurepip. Install them with:" >&2
        fi
        echo "    sudo apt-get install python3.11 python3.11-venv python3-tk" >&2
        echo "or name another Python 3.11: make PYTHON=/path/to/python3.11 ..." >&2
        exit 1
    fi
    free=$(df -Pk . | awk 'NR == 2 {print int($4 / 1048576)}')
    if [ "$free" -lt 8 ]; then
        echo "ERROR: the environment needs 8 GB of disk, but only $free GB are free in $(pwd)." >&2
        exit 1
    fi
    echo "Making .venv with $python; this takes some minutes, once."
    "$python" -m venv --clear .venv
fi
rm -f .venv/made-*
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
touch "$stamp"
