#!/usr/bin/env bash
# What the compiler can tell of the CUDA kernels, from the files that cmake/nvcc_logged.sh leaves:
# none may spill registers to memory, but for exceptions in kernel_resources.txt, and those listed
# there must keep within the registers and shared memory that the blocks of a multiprocessor rest on.
# Prints those as a table.
# Use: check_kernels.sh BUILD
set -euo pipefail
build=$(realpath "$1")
cd "$(dirname "${BASH_SOURCE[0]}")"

mapfile -t logs < <(find "$build" -name '*.cu.o.ptxas')
((${#logs[@]} > 0)) || { echo "there are no .ptxas files in $build" && exit 1; }

# kernel, architecture, registers, static shared memory, spills; bytes
cat "${logs[@]}" | awk '
  /Compiling entry function/ { split($0, part, "\047"); kernel = part[2]; arch = part[4] }
  /bytes stack frame/ { spills = $5 + $9 }
  /Used [0-9]+ registers/ {
    shared = 0
    for (i = 2; i <= NF; ++i) {
      if ($i ~ /^registers/) registers = $(i - 1)
      if ($i ~ /^smem/) shared = $(i - 2)
    }
    printf "%s\t%s\t%d\t%d\t%d\n", kernel, arch, registers, shared, spills
  }' | c++filt | sed -E 's/triad::(kernels|cuda)::|\(anonymous namespace\)::|^void //g' | sort -u |
  awk -F '\t' '
    FNR == NR {
      if ($0 ~ /^[^#]/) { names[++listed] = $1; allowed[$1] = $5 + 0; threads[$1] = $2; dynamic[$1] = $3; blocks[$1] = $4 }
      next
    }
    { ++kernels }
    {
      for (n = 1; n <= listed; ++n) if (index($1, names[n]) == 1 && $5 <= allowed[names[n]]) $5 = 0
    }
    $5 > 0 { print $1 " for " $2 " spills " $5 " bytes"; ++faults }
    {
      for (n = 1; n <= listed; ++n) {
        name = names[n]
        if (index($1, name) != 1) continue
        met[name] = 1
        # 64 K registers and 227 KiB (sm_80: 163) of shared memory; a warp takes registers by 256.
        warp = int(($3 * 32 + 255) / 256) * 256
        by_registers = int(65536 / (warp * threads[name] / 32))
        memory = ($2 == "sm_80" ? 163 : 227) * 1024
        # launch.h asks for all shared memory that a block may have, where that is more than usual.
        if (dynamic[name] > 49152 && $4 > 0) {
          print name " for " $2 " has static shared memory beside more than 48 KiB that are not"
          ++faults
        }
        used = $4 + dynamic[name] + 1024
        by_memory = int(memory / used)
        fit = by_registers < by_memory ? by_registers : by_memory
        printf "| %s | %s | %d | %d | %d | %d |\n", name, $2, $3, threads[name], $4 + dynamic[name], fit
        if (fit < blocks[name]) {
          print name " for " $2 ": " fit " blocks fit a multiprocessor, its comment says " blocks[name]
          ++faults
        }
      }
    }
    END {
      for (n = 1; n <= listed; ++n)
        if (!met[names[n]]) { print "there is no kernel " names[n]; ++faults }
      print kernels " kernels, " faults + 0 " faults"
      exit kernels == 0 || faults > 0
    }' kernel_resources.txt -
