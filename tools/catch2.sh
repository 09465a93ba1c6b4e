#!/bin/bash
# Puts the two files of Catch2 3.13.0 into a cache outside of the checkout, out of a source package on PyPI that has them: Debian 12 has v2 only.
# Its tests are skipped where they are missing (tests/e2e/native_programs.py). Argument: the pip to use.
set -eu
cache=${XDG_CACHE_HOME:-$HOME/.cache}/holdfast/catch2-3.13.0
[ -e "$cache/complete" ] && exit 0
echo "fetching Catch2 3.13.0 into the cache (source package of symusic 0.6.0)"
mkdir -p "$cache"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$1" download -q --disable-pip-version-check --no-deps --no-binary symusic -d "$folder" symusic==0.6.0
tar xzf "$folder/symusic-0.6.0.tar.gz" -C "$cache" --strip-components 4 --wildcards '*/Catch2/extras/catch_amalgamated.*'
touch "$cache/complete"
