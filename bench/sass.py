#!/usr/bin/env python3
"""Counts the machine instructions in the inner loops of the tensor-core kernels, as a table.

Needs cuobjdump (of the CUDA Toolkit, or PyPI's nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm) on
PATH, and a file that nvcc -cubin made of backends/cuda/attention.cu. Use: sass.py FILE
"""
import re
import subprocess
import sys


def output_of(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def loop_of(code):
    """The instructions of that loop which has most tensor-core products."""
    found = re.findall(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\d+ )?([A-Z0-9_.]+)([^;]*);", code)
    instructions = [(int(address, 16), name, rest) for address, name, rest in found]
    best = []
    for end, name, rest in instructions:
        target = re.search(r"0x([0-9a-f]+)", rest)
        if name.startswith("BRA") and target and int(target[1], 16) <= end:
            begin = int(target[1], 16)
            loop = [n for address, n, _ in instructions if begin <= address <= end]
            best = max(best, loop, key=lambda names: sum(n.startswith("HMMA") for n in names))
    return best


print("| kernel | instructions | HMMA | LDSM | LDGSTS | MUFU | FP32 | HMMA issue share |")
print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
for part in sorted(re.split(r"\n\s*Function : ", output_of("cuobjdump", "-sass", sys.argv[1]))[1:]):
    kernel = output_of("c++filt", part.split("\n", 1)[0].strip()).strip()
    kernel = re.sub(r"triad::(kernels|cuda)::|\(anonymous namespace\)::|^void ", "", kernel)
    loop = loop_of(part)

    def count(*starts):
        return sum(name.startswith(starts) for name in loop)

    if count("HMMA"):
        # An m16n8k16 product takes a quarter of a multiprocessor 4 clocks at the dense peak.
        share = min(1, 4 * count("HMMA") / len(loop))
        print(f"| `{kernel.split('(')[0]}` | {len(loop)} | {count('HMMA')} | {count('LDSM')} "
              f"| {count('LDGSTS')} | {count('MUFU')} | {count('FFMA', 'FADD', 'FMUL', 'FMNMX')} "
              f"| {share:.0%} |")
