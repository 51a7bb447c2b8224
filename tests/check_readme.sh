#!/usr/bin/env bash
# Does what README.md says, as a reader would, so that it cannot go stale. Use:
#   check_readme.sh program CHECKOUT BUILD    builds and runs its program, with its CMakeLists.txt
#   check_readme.sh commands CHECKOUT BUILD   runs its commands with programs of BUILD, a few steps
set -euo pipefail

checkout=$2 build=$3
readme=$checkout/README.md

# fences LANGUAGE [first]: what stands between ```LANGUAGE and ```, everywhere or the first time.
fences() {
  awk -v open="^[ \t]*\`\`\`($1)[ \t]*$" -v first="${2:-}" '
    inside && /^[ \t]*```[ \t]*$/ { if (first) exit; inside = 0 }
    inside { print }
    $0 ~ open { inside = 1 }' "$readme"
}

fail() {
  printf 'README.md: %s\n' "$*"
  exit 1
}

# The reader's folder is outside the checkout, with the checkout in it as triad/. It has the same
# name each time, so that the build folder knows it again and builds only what has changed.
program() {
  local app
  app=${TMPDIR:-/tmp}/triad-user-program-$(cksum <<<"$build" | tr -dc 0-9)
  rm -rf "$app"
  mkdir -m 700 "$app"
  # shellcheck disable=SC2064 # the name as it is now
  trap "rm -rf '$app'" EXIT
  ln -s "$checkout" "$app/triad"
  fences cpp first >"$app/main.cpp"
  fences cmake first >"$app/CMakeLists.txt"
  [[ -s $app/main.cpp ]] || fail 'there is no program between ```cpp and ```'
  [[ -s $app/CMakeLists.txt ]] || fail 'there is no CMakeLists.txt between ```cmake and ```'
  # Without optimisation the library builds fastest.
  # Without CUDA, which nvcc would compile for three architectures.
  cmake -S "$app" -B "$build/user_program" -DCMAKE_BUILD_TYPE=Debug -DTRIAD_CUDA=OFF
  cmake --build "$build/user_program" --parallel "$(nproc)"
  local programs
  mapfile -t programs < <(find "$build/user_program" -maxdepth 1 -type f -executable)
  ((${#programs[@]} == 1)) || fail "its CMakeLists.txt makes ${#programs[@]} programs, not one"
  "${programs[0]}" | tee "$build/user_program/output"
  # The program prints the norm of every parameter's gradient; none may be lost.
  grep -q 'weight: [0-9]' "$build/user_program/output" || fail 'its program prints no gradients'
  ! grep -qE ': -?(nan|inf)' "$build/user_program/output" || fail 'its program prints a NaN'
}

# Leaves out the flags that say how long to train and write, and says little instead.
short_training() {
  sed -E 's/ --(steps|batch|eval-every|sample)[ =][0-9]+//g; s/$/ --steps 3 --batch 2 --sample 9/' \
    <<<"$1"
}

# Makes the files and folders of text that a command asks its reader for, of our own sources.
provide_data() {
  local path paths
  read -ra paths < <(grep -oP -- '--data[ =]\K([^ -][^ ]* ?)+' <<<"$1") || return 0
  for path in "${paths[@]}"; do
    [[ ! -e $path ]] || continue
    if [[ $path == */ ]]; then mkdir -p "$path"; fi
    cat "$checkout"/core/*.cpp >"${path/%\//\/text}"
  done
}

# What needs a GPU says so where there is none. With one, a CUDA test does the same, or it is a
# matter of half an hour.
run_on_gpu() {
  local said
  [[ $(nvidia-smi -L 2>/dev/null) != *GPU* ]] || return 0
  printf '$ %s\n' "$1"
  said=$(bash -c "$1" </dev/null 2>&1) ||
    grep -E 'there is no NVIDIA GPU here|cuda:0 is not there' <<<"$said" ||
    fail "this does not say that there is no GPU: $1: $said"
}

run_line() {
  local line=$1
  case $line in
    'git clone '* | 'cd '*) return ;; # that has happened
    './run bench --peers'*) return ;; # downloads PyTorch
    './run gpu') run_on_gpu "$line" && return ;;
    *' --device cuda'*) run_on_gpu "$(short_training "$line")" && return ;;
    './run gpu-pack') # of what git and dpkg know
      git -C "$checkout" rev-parse &>/dev/null && command -v dpkg >/dev/null || return 0
      ;;
    './run test'*) line+=' -N' ;;     # lists the tests: this is one of them
    './run bench'*) line+=' --only "(2,64)" --rounds 1 --seconds 0 --out ./bench.json' ;;
    './run demo'* | './run train_lm'*) line=$(short_training "$line") ;;
    './run hybrid'*) line+=' --steps 2 --runs 1 --max-seq 64' ;;
    './run generate'*) line=$(sed -E 's/ --tokens[ =][0-9]+//; s/$/ --tokens 8/' <<<"$line") ;;
    './run') ;;
    *) fail "tests/check_readme.sh has no rule to run: $line" ;;
  esac
  printf '$ %s\n' "$line"
  provide_data "$line"
  bash -c "$line" </dev/null || fail "this failed with code $?: $line"
}

# In a folder of its own, because ./run writes its runs/ beside itself.
commands() {
  local line count=0
  rm -rf "$build/readme"
  mkdir -p "$build/readme"
  cd "$build/readme"
  ln -s "$checkout/run" run
  export TRIAD_BUILD_DIR=$build
  while IFS= read -r line; do
    line=$(sed -E 's/^ *(\$ )?//; s/ +#.*$//; s/ +$//' <<<"$line")
    [[ -n $line && $line != '#'* ]] || continue
    run_line "$line"
    count=$((count + 1))
  done < <(
    fences 'sh|bash'
    fences console | grep '^ *\$ '
  )
  ((count > 0)) || fail 'there are no commands between ```sh and ```'
}

case $1 in
  program | commands) "$1" ;;
  *) fail "no such check: $1" ;;
esac
