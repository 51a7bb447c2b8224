#!/usr/bin/env python3
"""Counts the machine instructions in the inner loops of the tensor-core kernels, as a table.

Needs cuobjdump (of the CUDA Toolkit, or PyPI's nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm) on
PATH, and a file that nvcc -cubin made of attention.cu, attention_hopper.cu or fourier.cu of
backends/cuda. Use: sass.py FILE
"""
import re
import subprocess
import sys


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


print("| kernel | instructions | products | their clocks | LDSM | LDGSTS | MUFU | FP32 |")
print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
for part in sorted(re.split(r"\n\s*Function : ", output_of("cuobjdump", "-sass", sys.argv[1]))[1:]):
    kernel = output_of("c++filt", part.split("\n", 1)[0].strip()).strip()
    kernel = re.sub(r"triad::((kernels|cuda)::)?|\(anonymous namespace\)::|^void ", "", kernel)
    loop = loop_of(part)

    def count(*starts):
        return sum(name.startswith(starts) for name in loop)

    if sum(map(clocks, loop)) or "_channels<" in kernel:  # of attention, or a filter
        print(f"| `{kernel.split('(')[0]}` | {len(loop)} | {sum(clocks(n) > 0 for n in loop)} "
              f"| {sum(map(clocks, loop))} | {count('LDSM')} | {count('LDGSTS')} | {count('MUFU')} "
              f"| {count('FFMA', 'FADD', 'FMUL', 'FMNMX')} |")
