#!/usr/bin/env python3
"""Counts the machine instructions in the inner loops of the tensor-core kernels, as a table.

Needs cuobjdump and nvdisasm (of the CUDA Toolkit, or PyPI's nvidia-cuda-cuobjdump and
nvidia-cuda-nvdisasm) on PATH, and files that nvcc made of attention.cu, attention_hopper.cu or
fourier.cu of backends/cuda: objects, or what -cubin gives.

Use: sass.py FILE...
     sass.py --check PAGE FILE...    is that the table of the page, docs/performance.md? Products,
                                     and what fetches their operands, must be the same; of all
                                     instructions there may be a twentieth more or less, as sm_80
                                     and sm_90a, and versions of nvcc, differ by a few.
"""
import argparse
import pathlib
import re
import shutil
import subprocess
import sys

HEAD = "| kernel | instructions | products | their clocks | LDSM | LDGSTS | MUFU | FP32 |"
ARCHITECTURES = re.compile(r"sm_[89]\d|$")  # that the table holds for; a cubin does not say


def output_of(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def loop_of(code):
    """The instructions of the shortest loop that has all tensor-core products, or half of Hopper's:
    its kernels begin and end a tile outside of the loop. Without products the longest, or all."""
    found = re.findall(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\d+ )?([A-Za-z0-9_.]+)([^;]*);", code)
    instructions = [(int(address, 16), name, rest) for address, name, rest in found]

    def products(names):
        return sum(clocks(name) > 0 for name in names)

    loops = []
    for end, name, rest in instructions:
        target = re.search(r"0x([0-9a-f]+)", rest)
        if name.startswith("BRA") and target and int(target[1], 16) <= end:
            begin = int(target[1], 16)
            loops.append([n for address, n, _ in instructions if begin <= address <= end])
    names = [name for _, name, _ in instructions]
    least = products(names) / (2 if any(name.startswith("HGMMA") for name in names) else 1)
    if not least:
        return max((loop for loop in loops if len(loop) > 100), key=len, default=names)
    return min((loop for loop in loops if products(loop) >= least), key=len, default=[])


def clocks(name):
    """For how long a product of a warp, or of a group of four, keeps its tensor cores busy at the
    dense peak of an H100: m16n8k16 takes a quarter of a multiprocessor 4 clocks, m64nNk16 all of
    one N / 2."""
    if name.startswith("HGMMA"):
        return int(name.split(".")[1].split("x")[1]) // 2
    return 4 if name.startswith("HMMA") else 0


def counts(loop):
    """The numbers of a row of the table."""

    def count(*starts):
        return sum(name.startswith(starts) for name in loop)

    return [len(loop), sum(clocks(name) > 0 for name in loop), sum(map(clocks, loop)),
            count("LDSM"), count("LDGSTS"), count("MUFU"), count("FFMA", "FADD", "FMUL", "FMNMX")]


def kernels_of(file):
    """(name, counts) of every kernel of attention and every filter."""
    for code in re.split(r"\nFatbin elf code:", output_of("cuobjdump", "-sass", file)):
        arch = re.search(r"arch = (sm_\w+)", code)
        if not ARCHITECTURES.match(arch[1] if arch else ""):
            continue
        for part in sorted(re.split(r"\n\s*Function : ", code)[1:]):
            kernel = output_of("c++filt", part.split("\n", 1)[0].strip()).strip()
            kernel = re.sub(r"triad::((kernels|cuda)::)?|\(anonymous namespace\)::|^void ", "", kernel)
            loop = loop_of(part)
            if sum(map(clocks, loop)) or "_channels<" in kernel:
                yield kernel.split("(")[0], counts(loop)


def table_of(page):
    """{kernel: counts} of the table on the page."""
    _, *rows = page[page.index(HEAD):].split("\n\n")[0].splitlines()
    cells = [[cell.strip(" `") for cell in row.strip("| ").split("|")] for row in rows[1:]]
    return {kernel: [int(number) for number in numbers] for kernel, *numbers in cells}


def check(page, found):
    table = table_of(page)
    names = {kernel for kernel, _ in found}
    # Built for other architectures there are Hopper's kernels alone.
    complete = any("_mma<" in kernel for kernel in names)
    faults = [f"{kernel} is not there" for kernel in table if complete and kernel not in names]
    if not table.keys() & names:
        faults.append("there is none of the page's kernels")
    for kernel, numbers in found:
        if kernel not in table:
            continue
        (all_said, *said), (all_there, *there) = table[kernel], numbers
        if said[:4] != there[:4] or abs(all_there - all_said) > all_said / 20:
            faults.append(f"{kernel}: the page says {table[kernel]}, there are {numbers}")
    print("\n".join(faults) or f"{len(table.keys() & names)} kernels are as the page says")
    return bool(faults)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", metavar="PAGE", type=pathlib.Path)
    parser.add_argument("files", nargs="+", metavar="FILE")
    options = parser.parse_args()
    if not all(map(shutil.which, ("cuobjdump", "nvdisasm", "c++filt"))):
        sys.exit("skipped: there is no cuobjdump, nvdisasm or c++filt on PATH")
    found = [kernel for file in options.files for kernel in kernels_of(file)]
    if options.check:
        sys.exit(check(options.check.read_text(), found))
    print(HEAD + "\n| --- |" + " ---: |" * 7)
    for kernel, numbers in found:
        print(f"| `{kernel}` | " + " | ".join(map(str, numbers)) + " |")


main()
