#!/usr/bin/env python3
"""Breaks the CUDA kernels, one small change at a time, and shows that a test notices.

A mutant is a source file with one change: a barrier removed, a comparison off by one, an index
shifted, a lane swapped, a copy not waited for. Most changes are written into one copy of the file
by the numbers of mutant.h, and the environment says which is alive: so a file is compiled once.
What they cannot express (|| for &&, whatever the compiler evaluates) is compiled alone. The tests
of the file run until one fails; those that survive are tried again under AddressSanitizer, and then
compiled alone. Those that compute the same as the kernel itself, such as one that is slower, are
listed in mutants_survive.txt beside this file, each with the reason why nobody could notice, and
are not tried. Of the others 95 of 100 have to die.

Use: mutants.py BUILD SANITIZED [--every N] [FILE...]     builds with -DTRIAD_CUDA=cpu
"""
import argparse
import concurrent.futures
import contextlib
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
KERNELS = ROOT / "backends" / "cuda"
SURVIVE = pathlib.Path(__file__).with_name("mutants_survive.txt")

# Which tests look at a file: program, test cases, and of the table of ops which ops.
def table(ops, gradients=True):
    values = [("test_op_cases", "values*,*schedules*", ops)]
    return values + [("test_op_case_gradients", "first*,gradients*", ops)] * gradients


LARGE = ("test_cuda", "more elements*", "")
ROWS = ("test_cuda_rows", "*", "")
CAPTURED = ("test_cuda_graphed_step", "*", "")
DEVICES = ("test_cuda_devices", "*", "")
FAILURES = ("test_cuda_failures", "*", "")
ALL = ""
TESTS = {
    "attention.cu": [("test_cuda_attention", "*", "")],
    "attention_hopper.cu": [("test_cuda_attention", c, "") for c in ("*more tiles*", "*")],
    "copy.cu": [LARGE, ROWS, *table("cat,stack,where,Tensor::contiguous,Tensor::to"),
                *table(ALL, False)],
    "cublas.cpp": [("test_cuda_matmul", "*", ""), ("test_cuda_mlp", "*", ""), DEVICES, FAILURES],
    "cufft.cpp": [("test_cuda_fourier", "*", ""), DEVICES, CAPTURED, FAILURES],
    "elementwise.cu": [LARGE, *table(ALL, False)],
    "fourier.cu": [("test_cuda_fourier", "*", "")],
    "indexing.cu": [LARGE, ROWS, *table("embedding,index_select,gather,scatter_add"), CAPTURED],
    "matmul.cu": [("test_cuda_matmul", "*", "")],
    "optimizers.cu": [("test_cuda_optimizers", "*", ""), CAPTURED],
    "random.cu": [("test_cuda", "random*", ""), CAPTURED],
    "reduce.cu": [LARGE, ROWS, *table("sum,mean,var,max,min,argmax,argmin,topk,cumsum"),
                  *table(ALL, False)],
    "replay.cu": [CAPTURED, FAILURES],
    "rows.cu": [ROWS, *table("softmax,log_softmax,layer_norm,rms_norm,cross_entropy")],
    "runtime.cpp": [("test_cuda", "*", ""), CAPTURED, DEVICES, FAILURES],
}
# Headers are tried within sources: what survives in the first, in the second.
WITHIN = {
    "attention_input.h": ["attention.cu"],
    "attention_hopper.cuh": ["attention_hopper.cu"],
    "attention_mma.cuh": ["attention.cu"],
    "attention_mma_backward.cuh": ["attention.cu"],
    "launch.h": ["fourier.cu"],
    "mma.h": ["attention.cu"],
    "spectral_filter.cuh": ["fourier.cu"],
    "reduce.h": ["rows.cu", "reduce.cu"],
    "elements.h": ["copy.cu", "elementwise.cu"],
    "random.h": ["random.cu"],
}


def within(file):
    return WITHIN.get(file, [file])



# Name, pattern, what takes its place in the code of a line; and what does the same by a number of
# mutant.h, N being the mutant's.
CHANGES = [
    ("a barrier removed", r"__syncthreads\(\);", ";", r"if (mutant::is(N)) {} else \g<0>"),
    ("a warp not waited for", r"__syncwarp\(\);", ";", r"if (mutant::is(N)) {} else \g<0>"),
    ("a copy not waited for", r"wait_copies<0>\(\);", ";", r"if (mutant::is(N)) {} else \g<0>"),
    ("a product not waited for", r"wait_products<\w+>\(.*\);", ";",
     r"if (mutant::is(N)) {} else \g<0>"),
    ("a call left out", r"^\s*(check|describe|set|cuda\w+|keep_for_graph)\(.*\);\s*$", ";",
     r"if (mutant::is(N)) {} else \g<0>"),
    ("one less <=", r" <= ", " <= -1 + ", " <= mutant::less(N) + "),
    ("one more <", r"(?<!<) < (?!<)", " < 1 + ", " < mutant::more(N) + "),
    ("one more >=", r" >= ", " >= 1 + ", " >= mutant::more(N) + "),
    ("one less >", r"(?<![->]) > (?!>)", " > -1 + ", " > mutant::less(N) + "),
    ("one not added", r" \+ 1(?![\d.x])", "", " + mutant::one(N)"),
    ("one not taken off", r" - 1(?![\d.x])", "", " - mutant::one(N)"),
    ("or for and", r" && ", " || ", None),
    ("another lane", r"(shuffle_xor|__shfl_xor_sync)\((.*), (\w+)\)", r"\1(\2, \3 * 2)",
     r"\1(\2, \3 << mutant::more(N))"),
    ("one lane further", r"__shfl_up_sync\((.*), by\)", r"__shfl_up_sync(\1, by + 1)",
     r"__shfl_up_sync(\1, by + mutant::more(N))"),
    ("half a warp", r"([%/]) 32\b", r"\1 16", r"\1 mutant::warp(N)"),
    ("nothing added", r"(?<![+*/-]) \+= ", " += 0 * ", " += mutant::one(N) * "),
    ("minus for plus", r"(?<=[\w\])]) \+ (?=[a-zA-Z])", " + -1 * ", " + mutant::sign(N) * "),
    ("the next element", r"\[([a-z]\w*)\](?= [=+*/-]|[;,)])", r"[\1 + 1]", r"[\1 + mutant::more(N)]"),
]


class Mutant:
    """One change of a line; `alone`: it has to be compiled by itself."""

    def __init__(self, file, line, code, change, match):
        self.file, self.line, self.code = file, line, code
        self.name, _, new, self.switch = change
        self.match = match
        self.changed = code[: match.start()] + match.expand(new) + code[match.end():]
        self.alone = self.switch is None or "constexpr" in code

    def key(self):
        return self.file, self.code.strip(), self.changed.strip()


def mutants_of(file):
    """Everything that CHANGES can change."""
    for line, text in enumerate((KERNELS / file).read_text().splitlines()):
        code = text.split("//")[0]
        if not code.strip() or re.match(r"\s*(#|template|using|constexpr|static_assert)", code):
            continue
        for change in CHANGES:
            for match in re.finditer(change[1], code):
                mutant = Mutant(file, line, code, change, match)
                in_text = code[: match.start()].count('"') % 2
                if mutant.changed != code and not in_text:
                    yield mutant


def with_switches(file, mutants):
    """The file's text with all of these mutants (number: mutant) in it."""
    lines = (KERNELS / file).read_text().splitlines()
    for line in {m.line for m in mutants.values()}:
        code = lines[line].split("//")[0]
        end = len(code)
        here = [(m.match.start(), n, m) for n, m in mutants.items() if m.line == line]
        for start, number, mutant in sorted(here, key=lambda item: -item[0]):
            if mutant.match.end() > end:  # the places of two overlap
                mutant.alone = True
                continue
            new = mutant.match.expand(mutant.switch.replace("N", str(number)))
            code = code[:start] + new + code[mutant.match.end():]
            end = start
        lines[line] = code
    return "\n".join(lines) + "\n"


class Build:
    def __init__(self, folder):
        self.folder = folder
        commands = self.ninja("-t", "commands", "cuda_tests").splitlines()
        self.compile = {s: next(shlex.split(c) for c in commands if f"/{s} " in c + " " and " -c " in c)
                        for s in TESTS}
        programs = {program for tests in TESTS.values() for program, *_ in tests}
        self.link = {p: next(shlex.split(c.split(" && ")[1]) for c in commands
                             if f"-o bin/{p} " in c + " ") for p in programs}

    def ninja(self, *arguments):
        return subprocess.run(["ninja", "-C", self.folder, *arguments], check=True, text=True,
                              stdout=subprocess.PIPE).stdout

    def programs(self, source, texts, scratch):
        """Compiles the source with these texts of it and of headers, and links its tests. Returns
        what the compiler complained of."""
        include = scratch / "triad/backends/cuda"
        include.mkdir(parents=True, exist_ok=True)
        for file, text in ({source: (KERNELS / source).read_text()} | texts).items():
            (include / file).write_text(text)
        command = list(self.compile[source])
        command[command.index("-o") + 1] = str(scratch / "mutant.o")
        command[command.index("-c") + 1] = str(include / source)
        command = [a for a in command if not a.startswith(("-MF", "-MT", "-MD", "-Wall", "-Wextra"))
                   and not a.endswith((".o.d", ".cu.o", ".cpp.o"))]
        command += ["-O1", "-fsanitize=bounds", "-fsanitize-undefined-trap-on-error"]
        command[1:1] = [f"-I{scratch}", "-include", str(pathlib.Path(__file__).with_name("mutant.h"))]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True)
        if done.returncode:
            return done.stderr
        for program in {program for program, *_ in TESTS[source]}:
            link = list(self.link[program])
            link[link.index("-o") + 1] = str(scratch / program)
            link.insert(link.index("-o") + 2, str(scratch / "mutant.o"))
            subprocess.run(link, cwd=self.folder, check=True, capture_output=True)
        return ""

    def switched(self, source, mutants, scratch):
        """Programs with all of these mutants of one source in them. Those that the compiler does
        not take become mutants to be compiled alone."""
        files = {m.file for m in mutants.values()} | {source}
        while True:
            texts = {f: with_switches(f, {n: m for n, m in mutants.items()
                                          if m.file == f and not m.alone}) for f in files}
            complaints = self.programs(source, texts, scratch)
            if not complaints:
                return
            places = {(pathlib.Path(f).name, int(line) - 1)
                      for f, line in re.findall(r"([\w/.-]+):(\d+):", complaints)}
            refused = [m for m in mutants.values() if (m.file, m.line) in places and not m.alone]
            if not refused:
                sys.exit(f"{source} does not compile:\n{complaints}")
            for mutant in refused:
                mutant.alone = True

    def noticed_by(self, source, scratch, number=-1, timeout=1200):
        """The test that fails, or None."""
        for program, cases, ops in TESTS[source]:
            try:
                run = subprocess.run(
                    [scratch / program, f"-tc={cases}", "--abort-after=1"], timeout=timeout,
                    capture_output=True,
                    env=os.environ | {"TRIAD_TEST_DEVICE": "cuda", "OMP_NUM_THREADS": "1",
                                      "TRIAD_TEST_OPS": ops, "TRIAD_MUTANT": str(number)})
            except subprocess.TimeoutExpired:
                return program
            if run.returncode:
                return program
        return None


@contextlib.contextmanager
def scratch_in(folder):
    with tempfile.TemporaryDirectory(prefix="mutant-", dir=folder) as name:
        yield pathlib.Path(name)


def excused():
    lines = SURVIVE.read_text().splitlines() if SURVIVE.exists() else []
    for line in lines:
        if line and not line.startswith("#"):
            file, code, changed, reason = line.split("\t")
            assert reason, line
            yield file, code, changed


def attempt_all(build, mutants, nth):
    """Those that survive the tests of this build, within the nth source of their file, and how many
    do not compile."""
    survived, broken, done = [], 0, 0
    with scratch_in(build.folder) as scratch, \
            concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        def prepare(source):
            own = {n: m for n, m in enumerate(mutants) if within(m.file)[nth] == source}
            if not own:
                return source, own, 0
            (scratch / source).mkdir()
            build.switched(source, own, scratch / source)
            began = time.time()
            failed = build.noticed_by(source, scratch / source)
            if failed:
                sys.exit(f"{source}: {failed} fails without any mutant")
            return source, own, 30 + 3 * (time.time() - began)

        def attempt(source, number, mutant, timeout):
            if not mutant.alone:
                return mutant, build.noticed_by(source, scratch / source, number, timeout)
            lines = (KERNELS / mutant.file).read_text().splitlines(keepends=True)
            lines[mutant.line] = mutant.changed + "\n"
            with scratch_in(scratch) as place:
                if build.programs(source, {mutant.file: "".join(lines)}, place):
                    return mutant, "does not compile"
                return mutant, build.noticed_by(source, place, timeout=timeout)

        tries = []
        for ready in concurrent.futures.as_completed([pool.submit(prepare, s) for s in TESTS]):
            source, own, timeout = ready.result()
            alone = sum(m.alone for m in own.values())
            if own:
                print(f"{source}: {len(own)} mutants, {alone} of them compiled alone", flush=True)
            tries += [pool.submit(attempt, source, n, m, timeout) for n, m in own.items()]
        begun = time.time()
        for ended in concurrent.futures.as_completed(tries):
            mutant, end = ended.result()
            done += 1
            broken += end == "does not compile"
            if end is None:
                survived.append(mutant)
            left = (time.time() - begun) / done * (len(tries) - done)
            print(f"{done}/{len(tries)} {left / 60:4.0f} min left  {mutant.file}:{mutant.line + 1} "
                  f"{mutant.name}: {end or 'SURVIVED  ' + mutant.changed.strip()}", flush=True)
    return survived, broken


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build")
    parser.add_argument("sanitized")
    parser.add_argument("--every", type=int, default=1, help="take one of so many mutants")
    parser.add_argument("files", nargs="*", help="names in backends/cuda; else all")
    options = parser.parse_intermixed_args()
    known = set(excused())
    everyone = [m for file in sorted(TESTS.keys() | WITHIN.keys())
                if not options.files or file in options.files for m in mutants_of(file)]
    wrong = [key for key in known - {m.key() for m in everyone}
             if key[0] in (options.files or [key[0]])]
    if wrong:
        sys.exit(f"{SURVIVE.name} names no mutant by {wrong}")
    everyone = everyone[:: options.every]
    mutants = [m for m in everyone if m.key() not in known]
    if not mutants or set(options.files) - TESTS.keys() - WITHIN.keys():
        sys.exit(f"no mutants of {' '.join(options.files)}")

    start = time.time()
    survived, broken = mutants, 0
    for folder, alone, what in ((options.build, False, "as usual"),
                                (options.sanitized, False, "under AddressSanitizer"),
                                (options.sanitized, True, "under AddressSanitizer, alone")):
        tried = [m for m in survived if not (alone and m.alone)]
        for mutant in tried:  # some switches stand where the compiler evaluates them
            mutant.alone |= alone
        for nth in range(2):
            again = [m for m in tried if m in survived and nth < len(within(m.file))]
            if not again:
                continue
            print(f"\n{len(again)} mutants, {what}", flush=True)
            left, refused = attempt_all(Build(folder), again, nth)
            survived = [m for m in survived if m not in again or m in left]
            broken += refused
    died, listed = len(mutants) - len(survived) - broken, len(everyone) - len(mutants)
    print(f"\n{died} died, {len(survived)} survived, {broken} did not compile, {listed} compute the "
          f"same, as {SURVIVE.name} says; {(time.time() - start) / 60:.0f} minutes")
    for mutant in survived:
        print("\t".join(mutant.key()) + "\t")
    sys.exit(died < 0.95 * (died + len(survived)))


main()
