#!/usr/bin/env python3
"""Which CUDA kernels the tests have run on the simulated device, and under how many schedules.

Use: coverage.py PROGRAMS LAUNCHES. Programs that have written to the folder LAUNCHES (see
note_run in cuda_runtime.cpp) lie in the folder PROGRAMS. Fails where an instantiation of a
kernel has not run under all four schedules.
"""
import collections
import pathlib
import re
import subprocess
import sys

KERNELS = pathlib.Path(__file__).resolve().parent.parent.parent / "backends" / "cuda"
KERNEL = re.compile(r"__global__\s+void\s+(?:__launch_bounds__\((?:[^()]|\([^()]*\))*\)\s*)?(\w+)\(")
SCHEDULES = {0, 1, 2, 3}


def readable(symbol):
    """`attend<float>` for what nm -C says of it; nothing of what is no kernel."""
    if not re.search(r"triad::(kernels::\(anonymous|cuda::)", symbol) or "(triad::Cuda" in symbol:
        return ""
    name = re.sub(r"triad::(kernels::|cuda::)?|\(anonymous namespace\)::|^void ", "", symbol)
    depth = 0
    for i, c in enumerate(name):
        depth += (c == "<") - (c == ">")
        if c == "(" and depth == 0:
            return name[:i]
    return name


def kernels_of(program, names):
    """{offset: name} of the kernels in a program."""
    lines = subprocess.run(["nm", "-C", program], check=True, text=True,
                           stdout=subprocess.PIPE).stdout.splitlines()
    symbols = [line.split(" ", 2) for line in lines]
    start = next(int(s[0], 16) for s in symbols if s[2] == "__executable_start")
    found = {}
    for address, kind, symbol in (s for s in symbols if s[1] in "tTwW"):
        name = readable(symbol)
        if re.split("<", name)[0] in names and "[clone" not in symbol:
            found[int(address, 16) - start] = name
    return found


def main():
    programs, launches = map(pathlib.Path, sys.argv[1:])
    names = {name for source in KERNELS.iterdir() for name in KERNEL.findall(source.read_text())}
    seen = collections.defaultdict(set)
    everyone = set()
    for file in sorted(launches.iterdir()):
        kernels = kernels_of(programs / file.name, names)
        everyone |= set(kernels.values())
        for line in file.read_text().splitlines():
            offset, schedule = line.split()
            seen[kernels.get(int(offset, 16), "of a test")].add(int(schedule))
    if not everyone:
        sys.exit("no test has run")
    missing = sorted(k for k in everyone if not SCHEDULES <= seen[k])
    print(f"{len(everyone)} kernels, {len(everyone) - len(missing)} of them under all schedules")
    for kernel in missing:
        print(f"{kernel}: under {sorted(seen[kernel]) or 'none'}")
    sys.exit(bool(missing))


main()
