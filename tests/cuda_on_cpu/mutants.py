#!/usr/bin/env python3
"""Breaks the CUDA kernels, one small change at a time, and shows that a test notices.

A mutant is a source file with one change: a barrier removed, a comparison off by one, an index
shifted, a lane swapped, a copy not waited for. It is compiled, linked before the library, and the
tests of that file run until one fails. Those that survive must be listed, with the reason why
nobody could notice, in mutants_survive.txt beside this file; 95 of 100 others have to die.

Use: mutants.py BUILD [--every N] [FILE...]     BUILD: that of ./run test --cuda-on-cpu
"""
import argparse
import concurrent.futures
import os
import pathlib
import re
import shlex
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
KERNELS = ROOT / "backends" / "cuda"
SURVIVE = pathlib.Path(__file__).with_name("mutants_survive.txt")

# Which tests look at a file: program, test cases.
VALUES = ("test_op_cases", "values*,*schedules*")
LARGE = ("test_cuda", "more elements*")
GRADIENTS = ("test_op_case_gradients", "first*")  # by central differences
TESTS = {
    "attention.cu": [("test_cuda_attention", "*")],
    "copy.cu": [LARGE, VALUES],
    "elementwise.cu": [LARGE, VALUES],
    "fourier.cu": [("test_cuda_fourier", "*")],
    "indexing.cu": [LARGE, VALUES, GRADIENTS, ("test_cuda", "a captured step*")],
    "matmul.cu": [("test_cuda_matmul", "*")],
    "optimizers.cu": [("test_cuda_training", "*"), ("test_cuda", "a captured step*")],
    "random.cu": [("test_cuda", "random*,a captured step*")],
    "reduce.cu": [LARGE, VALUES],
    "rows.cu": [VALUES, GRADIENTS],
}
# Headers are tried within a source that has all of their kernels.
WITHIN = {
    "attention_input.h": "attention.cu",
    "attention_mma.cuh": "attention.cu",
    "attention_mma_backward.cuh": "attention.cu",
    "mma.h": "attention.cu",
    "spectral_filter.cuh": "fourier.cu",
    "reduce.h": "rows.cu",
    "elements.h": "copy.cu",
    "random.h": "random.cu",
}

# (name, pattern, what takes its place), for the code of a line.
CHANGES = [
    ("a barrier removed", r"__syncthreads\(\);", ""),
    ("a warp not waited for", r"__syncwarp\(\);", ""),
    ("a copy not waited for", r"wait_copies<0>\(\);", ""),
    ("< for <=", r" <= ", " < "),
    ("<= for <", r"(?<![<\w]) < (?!<)", " <= "),
    ("> for >=", r" >= ", " > "),
    (">= for >", r"(?<![->]) > (?!>)", " >= "),
    ("one not added", r" \+ 1(?![\d.x])", ""),
    ("one not taken off", r" - 1(?![\d.x])", ""),
    ("or for and", r" && ", " || "),
    ("another lane", r"(shuffle_xor|__shfl_xor_sync)\((.*), (\w+)\)", r"\1(\2, \3 ^ 1)"),
    ("one lane further", r"__shfl_up_sync\((.*), by\)", r"__shfl_up_sync(\1, by + 1)"),
    ("half a warp", r"([%/]) 32\b", r"\1 16"),
    ("a sum forgotten", r"(?<![+*/-]) \+= ", " = "),
    ("minus for plus", r"(?<=[\w\])]) \+ (?=[a-zA-Z])", " - "),
    ("the next element", r"\[(\w+)\](?= [=+*/;,)-])", r"[\1 + 1]"),
]


def code_of(line):
    return line.split("//")[0]


def mutants_of(path):
    """(line number, name, old line, new line) for everything that CHANGES can change."""
    for number, line in enumerate(path.read_text().splitlines()):
        code = code_of(line)
        if not code.strip() or re.match(r"\s*(#|template|using|constexpr|static_assert)", code):
            continue
        for name, pattern, new in CHANGES:
            for match in re.finditer(pattern, code):
                changed = code[: match.start()] + match.expand(new) + code[match.end():]
                if changed != code:
                    yield number, name, code, changed


class Build:
    def __init__(self, folder):
        self.folder = folder
        commands = self.ninja("-t", "commands", "cuda_tests").splitlines()
        self.compile = {s: next(shlex.split(c) for c in commands if f"/{s} " in c + " " and " -c " in c)
                        for s in TESTS}
        programs = {program for tests in TESTS.values() for program, _ in tests}
        self.link = {p: next(shlex.split(c.split(" && ")[1]) for c in commands
                             if f"-o bin/{p} " in c + " ") for p in programs}

    def ninja(self, *arguments):
        return subprocess.run(["ninja", "-C", self.folder, *arguments], check=True, text=True,
                              stdout=subprocess.PIPE).stdout

    def try_out(self, source, header, text):
        """How the mutant ended: 'does not compile', the program that noticed, or None."""
        with Scratch(self.folder) as scratch:
            include = scratch / "triad/backends/cuda"
            include.mkdir(parents=True)
            mutant = include / source
            if header:
                (include / header).write_text(text)
                text = (KERNELS / source).read_text()
            mutant.write_text(text)
            command = [a for a in self.compile[source]]
            command[command.index("-o") + 1] = str(scratch / "mutant.o")
            command[command.index("-c") + 1] = str(mutant)
            command = [a for a in command if not a.startswith(("-MF", "-MT", "-MD"))
                       and not a.endswith((".o.d", ".cu.o"))]
            command.insert(1, f"-I{scratch}")
            if subprocess.run(command, cwd=self.folder, capture_output=True).returncode:
                return "does not compile"
            for program, cases in TESTS[source]:
                link = list(self.link[program])
                link[link.index("-o") + 1] = str(scratch / program)
                link.insert(link.index("-o") + 2, str(scratch / "mutant.o"))
                subprocess.run(link, cwd=self.folder, check=True, capture_output=True)
                try:
                    run = subprocess.run(
                        [scratch / program, f"-tc={cases}", "--abort-after=1"], timeout=600,
                        capture_output=True, env=os.environ | {"TRIAD_TEST_DEVICE": "cuda",
                                                               "OMP_NUM_THREADS": "1"})
                except subprocess.TimeoutExpired:
                    return program
                if run.returncode:
                    return program
        return None


class Scratch:
    number = 0

    def __init__(self, folder):
        Scratch.number += 1
        self.path = pathlib.Path(folder) / f"mutant-{os.getpid()}-{Scratch.number}"

    def __enter__(self):
        self.path.mkdir()
        return self.path

    def __exit__(self, *_):
        subprocess.run(["rm", "-r", self.path], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build")
    parser.add_argument("--every", type=int, default=7, help="take one of so many mutants")
    parser.add_argument("files", nargs="*", help="names in backends/cuda; else all")
    options = parser.parse_intermixed_args()
    build = Build(options.build)
    excused = {}
    for line in SURVIVE.read_text().splitlines() if SURVIVE.exists() else []:
        if line and not line.startswith("#"):
            file, code, changed, reason = (part.strip() for part in line.split("|"))
            excused[file, code, changed] = reason

    tasks = []
    for file in sorted(TESTS.keys() | WITHIN.keys()):
        path = KERNELS / file
        if (options.files and file not in options.files) or not path.exists():
            continue
        for mutant in list(mutants_of(path))[:: options.every]:
            if (file, mutant[2].strip(), mutant[3].strip()) not in excused:
                tasks.append((file, *mutant))

    def attempt(task):
        file, number, _, code, changed = task
        lines = (KERNELS / file).read_text().splitlines(keepends=True)
        lines[number] = changed + "\n"
        source = WITHIN.get(file, file)
        return build.try_out(source, file if file in WITHIN else None, "".join(lines))

    start, died, survived, broken = time.time(), 0, [], 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, (task, end) in enumerate(zip(tasks, pool.map(attempt, tasks)), 1):
            file, number, name, code, changed = task
            broken += end == "does not compile"
            died += end not in (None, "does not compile")
            if end is None:
                survived.append(task)
            left = (time.time() - start) / done * (len(tasks) - done)
            print(f"{done}/{len(tasks)} {left / 60:4.0f} min left  {file}:{number + 1} {name}: "
                  f"{end or 'SURVIVED  ' + changed.strip()}", flush=True)
    print(f"\n{died} died, {len(survived)} survived, {broken} did not compile; {len(excused)} are "
          f"excused in {SURVIVE.name}; {(time.time() - start) / 60:.0f} minutes")
    for file, number, name, code, changed in survived:
        print(f"{file} | {code.strip()} | {changed.strip()} |")
    sys.exit(died < 0.95 * (died + len(survived)))


main()
