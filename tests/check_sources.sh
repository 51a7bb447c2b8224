#!/usr/bin/env bash
# Checks what keeps the sources readable: includes point one way down (core < backends < autograd <
# nn < examples), files and library stay short, and the public headers reach no heavy dependency.
# Use: check_sources.sh CHECKOUT COMPILER INCLUDE_FOLDER
set -euo pipefail
cd "$1"

find core backends autograd nn examples tests bench triad.h -type f \
  \( -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' \) -print0 |
  sort -z | xargs -0 awk '
    BEGIN {
      split("core backends autograd nn triad.h examples tests bench", names)
      for (i in names) level[names[i]] = i + 0
      level["bench"] = level["tests"]
    }
    function fault(text) { print FILENAME ":" FNR ": " text; faults++ }
    function total(text) { print text; faults++ }
    { split(FILENAME, from, "/") }
    /^[ \t]*#[ \t]*include[ \t]*"/ { fault("includes are written <triad/...>") }
    /^[ \t]*#[ \t]*include[ \t]*<triad\// {
      split($0, to, "[/>]")
      if (!(to[2] in level)) fault("triad has no folder " to[2])
      else if (level[to[2]] > level[from[1]]) fault(from[1] " must not include " to[2])
    }
    FNR == 401 { fault("a file has at most 400 lines") }
    # What is there for CUDA alone is in folders of that name: the backend, and its callers in core
    # and nn. Files for one kind of GPU are counted apart.
    from[1] ~ /^(core|backends|autograd|nn|triad.h)$/ && from[2] != "cuda" { lines[0]++ }
    from[1] == "backends" && from[2] == "cuda" { lines[FILENAME ~ /hopper/ ? 2 : 1]++ }
    END {
      if (lines[0] >= 10000) total("the library has " lines[0] " lines, 10000 is too many")
      if (lines[1] >= 4000) total("backends/cuda has " lines[1] " lines, 4000 is too many")
      if (lines[2] >= 700) total("the files for Hopper have " lines[2] " lines, 700 is too many")
      if (lines[0] == 0) total("there are no sources")
      exit faults > 0
    }'

# Every program pays for what the public headers include.
reached=$("$2" -std=c++20 -M -I "$3" triad.h | tr ' ' '\n')
heavy=$(grep -vF "$3/triad/" <<<"$reached" |
  grep -E '/(fmt|nlohmann|hwy|CLI|doctest)/|/(omp|dnnl|oneapi)[^/]*(\.h|/)') || exit 0
printf '<triad/triad.h> must not include %s\n' "$heavy"
exit 1
