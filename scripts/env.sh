# Sourced, not run: `. scripts/env.sh`. Builds RocksDB once if need be and makes cargo link it.
# A plain `cargo build --locked` without this works too; it then compiles RocksDB itself.

if ! ROCKSDB_LIB_DIR=$("$(dirname "${BASH_SOURCE[0]}")/rocksdb.sh"); then
    echo "env.sh: RocksDB could not be built; see above" >&2
    unset ROCKSDB_LIB_DIR
    return 1
fi
export ROCKSDB_LIB_DIR ROCKSDB_STATIC=1

# libclang without clang's own headers (Debian's libclang1 alone): bindgen borrows the C compiler's.
if [ -z "${BINDGEN_EXTRA_CLANG_ARGS-}" ] &&
    ! compgen -G '/usr/lib/llvm-*/lib/clang/*/include/stddef.h' >/dev/null &&
    ! compgen -G '/usr/lib/clang/*/include/stddef.h' >/dev/null; then
    export BINDGEN_EXTRA_CLANG_ARGS="-I$(cc -print-file-name=include)"
fi
