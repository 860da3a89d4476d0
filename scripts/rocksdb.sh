#!/usr/bin/env bash
# Builds RocksDB once, from the sources of the crate that Cargo.lock pins, into a cache outside
# target/. Its C++ takes about 30 CPU-minutes, which no clean checkout and no profile should pay again.
#
#   scripts/rocksdb.sh        build if needed, point `current` at it, print the directory
#   scripts/rocksdb.sh key    print the cache key and do nothing
#
# The library lies at $FLOTILLA_CACHE/rocksdb/<key>/librocksdb.a (default cache: ~/.cache/flotilla)
# and `current` links to <key>. The key names everything that goes into the C++: the crate's version,
# the rustflags (the crate passes target-cpu and target features on) and the C++ compiler.
set -euo pipefail
cd "$(dirname "$0")/.."

cache="${FLOTILLA_CACHE:-$HOME/.cache/flotilla}/rocksdb"

# Sets $key.
compute_key() {
    local version ingredients
    version=$(awk '/^name = "librocksdb-sys"$/ { getline; gsub(/version = |"/, ""); print }' Cargo.lock)
    [ -n "$version" ] || { echo "rocksdb.sh: Cargo.lock does not name librocksdb-sys" >&2; exit 1; }
    ingredients=$(
        grep -h '^rustflags' .cargo/config.toml
        echo "RUSTFLAGS=${RUSTFLAGS-}"
        # Whether the crate is optional changes nothing in the C++.
        grep '^rocksdb = ' Cargo.toml | sed 's/, optional = true//'
        uname -m
        "${CXX:-c++}" --version | head -1
    )
    key="$version-$(printf '%s\n' "$ingredients" | sha256sum | cut -c1-12)"
}

# `ln -sfn` replaces a link in two steps; renaming over it is one.
point_current_at_key() {
    [ "$(readlink "$cache/current" 2>/dev/null)" != "$key" ] || return 0
    ln -s "$key" "$cache/.current.$$"
    mv -T "$cache/.current.$$" "$cache/current"
}

build() {
    local began built
    began=$SECONDS
    echo "rocksdb.sh: building RocksDB into $cache/$key (once; about 30 CPU-minutes, here $(nproc) CPUs)" >&2
    # Set, ROCKSDB_LIB_DIR would make the crate link what we are about to build.
    env -u ROCKSDB_LIB_DIR -u ROCKSDB_STATIC CARGO_PROFILE_RELEASE_DEBUG=false \
        cargo build --locked --release -p librocksdb-sys --target-dir "$cache/build" >&2 &
    builder=$!
    # Whatever ends this script ends the build.
    trap 'kill "$builder" 2>/dev/null || true' EXIT
    while kill -0 "$builder" 2>/dev/null; do
        sleep 5
        [ $(((SECONDS - began) % 60)) -ge 5 ] || progress "$began"
    done
    wait "$builder" || { echo "rocksdb.sh: the build failed after $((SECONDS - began)) s" >&2; exit 1; }
    trap - EXIT
    # The newest, should an earlier build have left one.
    built=$(find "$cache/build/release/build" -path '*/librocksdb-sys-*/out/librocksdb.a' -printf '%T@ %p\n' |
        sort -n | tail -1 | cut -d' ' -f2-)
    [ -n "$built" ] || { echo "rocksdb.sh: the build left no librocksdb.a below $cache/build" >&2; exit 1; }
    rm -rf "$cache/.new.$$"
    mkdir -p "$cache/.new.$$"
    strip -g -o "$cache/.new.$$/librocksdb.a" "$built"
    rm -rf "${cache:?}/$key"
    mv -T "$cache/.new.$$" "$cache/$key"
    rm -rf "$cache/build"
    echo "rocksdb.sh: built in $((SECONDS - began)) s" >&2
}

progress() {
    local objects
    objects=$(find "$cache/build" -path '*/librocksdb-sys-*' -name '*.o' 2>/dev/null | wc -l)
    echo "rocksdb.sh: $((SECONDS - $1)) s, $objects object files of about 350" >&2
}

compute_key
if [ "${1-}" = key ]; then
    echo "$key"
    exit
fi
mkdir -p "$cache"
# Two callers must not build twice: the second waits here and then finds the library.
exec 9>"$cache/.lock"
flock -n 9 || { echo "rocksdb.sh: another build is running, waiting for it" >&2; flock 9; }
[ -e "$cache/$key/librocksdb.a" ] || build 9>&-
point_current_at_key
echo "$cache/current"
