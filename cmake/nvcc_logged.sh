#!/usr/bin/env bash
# nvcc, and what ptxas says of every kernel goes into a file beside the object, for
# tests/check_kernels.sh. Use: nvcc_logged.sh NVCC ARGUMENT...
out=
previous=
for argument; do
  [[ $previous == -o ]] && out=$argument
  previous=$argument
done
[[ $* == *-Xptxas* ]] || exec "$@" # CMake trying the compiler
"$@" 2>"$out.log"
status=$?
resources='^(ptxas )?info +:|^ptxas info|Function properties|bytes stack frame'
grep -E "$resources" "$out.log" >"$out.ptxas"
grep -vE "$resources" "$out.log" >&2
rm "$out.log"
exit $status
