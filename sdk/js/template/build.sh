# Compiles QuickJS, once, and links it with the text of the policy.
set -eu
cd "$(dirname "$0")"
mkdir -p build
quickjs=build/vendor/rquickjs-sys/quickjs
[ -d "$quickjs" ] || cargo vendor --quiet --locked --manifest-path sdk/js/quickjs/Cargo.toml build/vendor >/dev/null
clang="clang --target=wasm32-wasi --sysroot=/usr -O2"
for part in quickjs libregexp libunicode dtoa; do
    [ -f "build/$part.o" ] ||
        $clang -w -DNDEBUG -D_GNU_SOURCE -D_WASI_EMULATED_SIGNAL -c "$quickjs/$part.c" -o "build/$part.o"
done
{
    echo 'const char uvs_script[] = {'
    od -An -v -tu1 src/policy.js | sed 's/[0-9][0-9]*/&,/g'
    echo '0}; const unsigned long uvs_script_len = sizeof uvs_script - 1;'
} >build/script.c
$clang -isystem "$quickjs" -Isdk/c build/script.c sdk/js/engine/*.c sdk/c/*.c sdk/c/generated/*.c build/*.o \
    -mexec-model=reactor -nostdlib -Wl,--no-entry -Wl,--export=cabi_realloc -Wl,--strip-all -Wl,-z,stack-size=262144 \
    -L/usr/lib/wasm32-wasi -lc -o {{name}}.core.wasm
