#!/usr/bin/env bash
# Follows docs/adding_an_op.md: makes its changes in a copy of the sources, builds what they touch,
# links the rest from the build folder, and runs the tests of all ops. CUDA's are compiled alone. What
# the page says of the number of places is counted, too. Use: check_adding_an_op.sh COMPILER CHECKOUT BUILD [LINKER FLAG...]
set -euo pipefail

compiler=$1 checkout=$2 build=$3
copy=$(mktemp -d "$build/adding_an_op.XXXXXX")
trap 'rm -r "$copy"' EXIT
mkdir "$copy/triad"
cp -r "$checkout"/{core,backends,autograd,nn,tests,triad.h} "$copy/triad"
cd "$copy/triad"

fail() {
  printf 'docs/adding_an_op.md: %s\n' "$*"
  exit 1
}

# change FILE HOW TEXT BLOCK: puts the block before, after or instead of the one line with the text.
change() {
  [[ -f $1 && $(grep -cF -- "$3" "$1") == 1 ]] || fail "in $1 there is not one line with '$3'"
  HOW=$2 TEXT=$3 BLOCK=$4 awk '
    !index($0, ENVIRON["TEXT"]) { print; next }
    ENVIRON["HOW"] == "before" { printf "%s", ENVIRON["BLOCK"] }
    ENVIRON["HOW"] != "instead of" { print }
    ENVIRON["HOW"] != "before" { printf "%s", ENVIRON["BLOCK"] }' "$1" >"$copy/changed"
  mv "$copy/changed" "$1"
}

places=() counts=() file='' how='' text='' block='' inside=''
count() { ((${#places[@]} == 0)) || counts+=("$(printf '%s\n' "${places[@]}" | sort -u | wc -l)"); }
declare -A touched
while IFS= read -r line; do
  if [[ $line == '## '* ]]; then
    count
    places=()
  elif [[ $line =~ ^In\ a\ new\ file\ \`(.*)\`:$ ]]; then
    file=${BASH_REMATCH[1]} how=new
  elif [[ $line =~ ^In\ \`([^\`]*)\`,\ (before|after|instead\ of)\ \`(.*)\`:$ ]]; then
    file=${BASH_REMATCH[1]} how=${BASH_REMATCH[2]} text=${BASH_REMATCH[3]}
  elif [[ $line == '```cpp' ]]; then
    [[ -n $file ]] || fail 'a block belongs to no file'
    inside=yes block=''
  elif [[ $line == '```' ]]; then
    if [[ $how == new ]]; then printf '%s' "$block" >"$file"; else change "$file" "$how" "$text" "$block"; fi
    places+=("$file") touched[$file]=yes file='' inside=''
  elif [[ -n $inside ]]; then
    block+=$line$'\n'
  fi
done <"$checkout/docs/adding_an_op.md"
count
printf 'places that an elementwise op, a composite and a fused op take: %s\n' "${counts[*]}"
[[ ${#counts[@]} == 3 ]] && ((counts[0] <= 4 && counts[1] <= 3 && counts[2] <= 6)) ||
  fail 'that is not at most 4, 3 and 6'

# The header with the formulas is the only one whose change others must see.
sources=(tests/{main,test_op_cases,test_op_case_gradients,test_op_case_errors}.cpp backends/cpu/elementwise.cpp)
for file in "${!touched[@]}"; do [[ $file != *.cpp ]] || sources+=("$file"); done
printf '%s\n' "${sources[@]}" | sort -u |
  xargs -P 2 -I{} sh -c 'o=$(echo {} | tr / _).o && exec "$@" -c {} -o "$o"' - \
    "$compiler" -std=c++20 -O1 -march=native -fopenmp -Wall -Wextra -Wno-stringop-overflow -I"$copy" \
    "-DTRIAD_SOURCE_DIR=\"$PWD\"" "-DTRIAD_BINARY_DIR=\"$copy\""
for file in "${!touched[@]}"; do
  [[ $file != *.cu ]] || "$compiler" -x c++ -std=c++20 -fsyntax-only -Wall -Wextra -Wno-unknown-pragmas -I"$copy" \
    -Itests/cuda_on_cpu -DTRIAD_CUDA -DTRIAD_CUDA_ON_CPU "$file"
done
"$compiler" -fopenmp ./*.o "$build/tests/libtriad_op_cases.a" "$build/libtriad.a" -ldnnl -lfmt "${@:4}" -o op_cases
export OMP_WAIT_POLICY=passive
./op_cases --test-case-exclude='every op that computes is in the benchmark'
