#!/usr/bin/env bash
# What `./run gpu` does once all is built, on a machine with an NVIDIA GPU: stages, of which each is
# a line with its time. One that fails does not stop the others; the exit code tells at the end.
# bench/results/cuda.json and cuda.log are written stage by stage: what was stopped leaves those.
# Use: gpu.sh CHECKOUT BUILD SECONDS_OF_BUILD [STAGE...]
# shellcheck disable=SC2317 # stages are called by name
set -uo pipefail
export LC_ALL=C OMP_WAIT_POLICY=passive

checkout=$1 build=$2 build_seconds=$3
shift 3
results=$checkout/bench/results work=$build/gpu
log=$results/cuda.log json=$results/cuda.json
all_stages=(tests memcheck racecheck demo losses bench peers)

# ---------------------------------------------------------------------- stages

# What a stage found, in a few words beside its outcome.
note() { printf '%s' "$*" >"$work/note"; }

tests() {
  ctest --test-dir "$build" -L cuda -j 4 --timeout 900 --output-on-failure --no-tests=error |
    tee "$work/tests"
  local status=$?
  note "$(grep -E '^[0-9]+% tests passed' "$work/tests")"
  if grep -q '\*\*\*Skipped' "$work/tests"; then # nvidia-smi has seen a GPU
    note 'CUDA does not see the GPU: tests were skipped'
    return 1
  fi
  return "$status"
}

# One of compute-sanitizer's tools over the device's own tests, and over every op at one size,
# forward and backward.
sanitize() {
  local compiler sanitizer program status=0
  compiler=$(sed -n 's/^CMAKE_CUDA_COMPILER:[^=]*=//p' "$build/CMakeCache.txt")
  sanitizer=$(PATH=$PATH:$(dirname "${compiler:-/usr/local/cuda/bin/nvcc}") \
    command -v compute-sanitizer) || {
    note 'compute-sanitizer is not installed'
    return 77
  }
  cd "$work" || return
  for program in test_cuda 'test_op_cases --test-case=the*same*bits*'; do
    # API errors are not reported: tests ask for memory that is not there.
    # shellcheck disable=SC2086 # a program with its arguments
    TRIAD_TEST_DEVICE=cuda timeout -k 10 600 "$sanitizer" --tool "$1" --error-exitcode 9 \
      --report-api-errors no --print-limit 20 "$build/bin/"$program || status=$?
  done
  return "$status"
}
memcheck() { sanitize memcheck; }
racecheck() { sanitize racecheck; }

demo() {
  timeout -k 10 900 "$build/bin/hybrid_demo" --device cuda --out "$work/demo" &&
    note "the report is ${work#"$checkout"/}/demo/report.html"
}

# 200 steps on the CPU and on the device: the losses may differ by rounding, which grows as training
# goes, but not by more than 1 %.
losses() {
  local device
  for device in cpu cuda; do
    timeout -k 10 900 "$build/bin/train_lm" --device "$device" --out "$work/loss_$device" \
      --steps 200 --eval-every 200 --sample 0 || return
    sed 's/.*"loss":\([^,]*\),.*/\1/' "$work/loss_$device/metrics.jsonl" >"$work/losses_$device"
  done
  local worst
  worst=$(paste "$work/losses_cpu" "$work/losses_cuda" | awk '
    { off = ($2 - $1) / $1; if (off < 0) off = -off }
    !(off <= worst) { worst = off; step = NR }  # NaN, too
    END {
      printf "largest relative difference %.2g, at step %d of %d", worst, step, NR
      exit !(NR == 200 && worst <= 0.01)
    }')
  local status=$?
  note "$worst"
  return "$status"
}

# The clocks are watched meanwhile: rates mean little without them.
bench() {
  nvidia-smi -i 0 --query-gpu=clocks.sm --format=csv,noheader,nounits -l 1 >"$work/clocks" &
  local watcher=$! status
  timeout -k 10 900 "$build/bin/cuda_bench" --out "$work/bench.json" | tee "$work/bench"
  status=$?
  kill "$watcher"
  wait "$watcher" 2>/dev/null
  note "SM clock $(sort -n "$work/clocks" | sed -n '1p;$p' | paste -s -d -) MHz"
  return "$status"
}

# PyTorch on the same rows, where Python has it, into cuda_peers.json.
peers() {
  python3 -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || {
    note 'there is no PyTorch that sees the GPU'
    return 77
  }
  timeout -k 10 900 python3 "$checkout/bench/cuda_peers.py" --seconds 0.25 \
    --out "$results/cuda_peers.json"
}

# ---------------------------------------------------------------------- results

quoted() { # as JSON text
  printf '"%s"' "$(printf '%s' "$*" | tr '\n\t' '  ' | tr -d '\000-\037' | sed 's/[\\"]/\\&/g')"
}

machine() {
  local fields=(name driver_version clocks.max.sm clocks.max.memory power.limit memory.total)
  local query values i
  query=$(IFS=, && printf '%s' "${fields[*]}")
  IFS=, read -ra values < <(nvidia-smi -i 0 --query-gpu="$query" --format=csv,noheader)
  for i in "${!fields[@]}"; do
    printf '  %s: %s,\n' "$(quoted "${fields[i]}")" "$(quoted "${values[i]# }")"
  done
  printf '  "cpu": %s,\n' \
    "$(quoted "$(sed -n '0,/^model name/s/^model name[^:]*: //p' /proc/cpuinfo)")"
  printf '  "architecture": %s,\n' \
    "$(quoted "$(sed -n 's/^CMAKE_CUDA_ARCHITECTURES:[^=]*=//p' "$build/CMakeCache.txt")")"
  printf '  "commit": %s\n' "$(quoted "$(cat "$checkout/commit" 2>/dev/null ||
    git -C "$checkout" rev-parse --short HEAD 2>/dev/null)")"
}

write_json() {
  local i
  {
    printf '{\n "machine": {\n%s\n },\n' "$about"
    printf ' "build_seconds": %d,\n "stages": {' "$build_seconds"
    for i in "${!outcomes[@]}"; do
      ((i == 0)) || printf ','
      printf '\n  %s' "${outcomes[i]}"
    done
    printf '\n },\n "benchmark": '
    cat "$work/bench.json" 2>/dev/null || printf 'null\n'
    printf '}\n'
  } >"$json.part" && mv "$json.part" "$json"
}

run_stage() {
  local name=$1 start status outcome tenths found
  rm -f "$work/note"
  printf '\n==== %s\n' "$name" >>"$log"
  start=${EPOCHREALTIME/./}
  ("$name") >"$work/output" 2>&1
  status=$?
  tenths=$(((${EPOCHREALTIME/./} - start) / 100000))
  cat "$work/output" >>"$log"
  case $status in
    0) outcome=ok ;;
    77) outcome=skipped ;;
    *) outcome=FAILED failed=1 ;;
  esac
  found=$(cat "$work/note" 2>/dev/null)
  ((status != 124)) || found="was stopped because it took too long${found:+; $found}"
  printf '%-10s %-8s %6d.%d s  %s\n' "$name" "$outcome" $((tenths / 10)) $((tenths % 10)) "$found" |
    tee -a "$log"
  [[ $outcome != FAILED ]] || tail -n 12 "$work/output" | cut -c 1-200 | sed 's/^/    /'
  outcomes+=("$(quoted "$name"): {\"outcome\": $(quoted "$outcome"), \"exit_code\": $status, \
\"seconds\": $((tenths / 10)).$((tenths % 10)), \"note\": $(quoted "$found")}")
  write_json
}

stages=("$@")
((${#stages[@]})) || stages=("${all_stages[@]}")
for name in "${stages[@]}"; do
  [[ " ${all_stages[*]} " == *" $name "* ]] || {
    printf 'run: gpu has no stage %s; there are: %s\n' "$name" "${all_stages[*]}" >&2
    exit 2
  }
done

mkdir -p "$results" "$work"
[[ " ${stages[*]} " != *' bench '* ]] || rm -f "$work/bench.json" "$work/bench"
about=$(machine) outcomes=() failed=0
{
  date
  nvidia-smi -L
  printf '%s\n' "$about"
} >"$log"
printf '%-10s %-8s %6d s\n' build ok "$build_seconds"
for name in "${stages[@]}"; do run_stage "$name"; done
cat "$work/bench" 2>/dev/null
printf 'every number: %s, what was said: %s\n' "${json#"$PWD"/}" "${log#"$PWD"/}"
exit $failed
