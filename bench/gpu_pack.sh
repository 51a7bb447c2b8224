#!/usr/bin/env bash
# What `./run gpu-pack` does: a folder with the sources that git knows and, in one archive, the
# dependencies that Debian packages put on this machine. `./run` there takes them from it.
# Use: gpu_pack.sh CHECKOUT FOLDER
set -euo pipefail

checkout=$1 pack=$2
limit=$((60 << 20)) # bytes: what may be carried to some machines is not much more

fail() {
  printf 'run: %s\n' "$*" >&2
  exit 1
}
command -v dpkg >/dev/null ||
  fail 'gpu-pack takes the dependencies from Debian packages; there is no dpkg'

# Headers and CMake's files; libraries under every name that the linker and the loader look for.
# triad links oneDNN, which loads OpenCL, and fmt. What is left of the packages are programs and
# libraries that it does not use.
dependencies() {
  local package file
  for package in libdnnl-dev libfmt-dev libhwy-dev doctest-dev nlohmann-json3-dev libcli11-dev; do
    dpkg -L "$package" | grep -E '^/usr/(include|lib/.*cmake|share/cmake)/' ||
      fail "the package $package is not installed"
  done
  find /usr/include/CL -type f
  for file in /usr/lib/*/libdnnl.so* /usr/lib/*/libfmt.so* /usr/lib/*/libOpenCL.so*; do
    printf '%s\n' "$file"
  done
}

rm -rf "$pack"
mkdir -p "$pack"
git -C "$checkout" ls-files -z | tar -C "$checkout" --null -T - -cf - | tar -C "$pack" -xf -
git -C "$checkout" describe --always --dirty >"$pack/commit"
dependencies | while IFS= read -r file; do
  [[ -d $file ]] || printf '%s\n' "${file#/usr/}"
done | sort -u | tar -C /usr -T - -czf "$pack/third_party.tar.gz"

size=$(du -sb "$pack" | cut -f 1)
printf '%s: %d MiB; there: ./run gpu\n' "$pack" $((size >> 20))
((size <= limit)) || fail "that is more than $((limit >> 20)) MiB"
