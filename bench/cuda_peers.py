"""PyTorch on the rows of cuda_bench: eager, and layers and training by torch.compile, too.

    python3 bench/cuda_peers.py --out cuda_peers.json [--seconds 0.5] [--only TEXT] [--eager]

The same names, sizes and way of timing as in cuda_bench.cpp: runs launched one after the other,
from an idle device to an idle device, in samples of at least 2 ms, of which the median counts. f32
products are in f32 there as here (no TF32). Compiling takes many seconds a row: processes do it
side by side, and a lock lets one of them at a time measure, beside what the others compile and, for
a moment, run first. Eager rows are measured before, alone.
"""
import argparse
import contextlib
import fcntl
import json
import math
import multiprocessing
import os
import pathlib
import statistics
import sys
import tempfile
import time

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests" / "golden"))
import hybrid_torch  # noqa: E402

CONFIGURATIONS = {  # those of examples/common/configurations.h
    "All standard (8)": ["standard"] * 8,
    "All spectral (8)": ["spectral"] * 8,
    "All holonomy (8)": ["holonomy"] * 8,
    "Mixed (4+2+2)": ["standard"] * 4 + ["spectral"] * 2 + ["holonomy"] * 2,
    "Balanced (3+3+2)": ["standard"] * 3 + ["spectral"] * 3 + ["holonomy"] * 2,
}
SIZES = [(2, 64), (8, 256), (4, 1024), (1, 4096)]
ROWS, COLUMNS = 65536, 1024


def samples(run, seconds):
    """Of one run each, as cuda_bench takes them."""
    def timed(batch):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(batch):
            run()
        torch.cuda.synchronize()
        return (time.perf_counter() - start) / batch

    start = time.perf_counter()
    for i in range(10**6):
        once = timed(1)
        if i >= 2 and time.perf_counter() - start > 0.2:
            break
    batch = min(max(math.ceil(2e-3 / once), 1), 1000)
    result, start = [], time.perf_counter()
    while len(result) < 3 or len(result) < 20 and time.perf_counter() - start < seconds:
        result.append(timed(batch))
    return result


# Each gives {how: run}, to be measured.

def moving(name, dtype):
    x = torch.randn(ROWS, COLUMNS, device="cuda").to(dtype)
    y = torch.randn(ROWS, COLUMNS, device="cuda").to(dtype)
    w, b = y[0].clone(), y[1].clone()
    return {"eager": {
        "copy": x.clone,
        "add": lambda: x + y,
        "gelu": lambda: F.gelu(x),
        "softmax": lambda: F.softmax(x, -1),
        "layer_norm": lambda: F.layer_norm(x, [COLUMNS], w, b),
    }[name]}


def product(dtype):
    a, b = (torch.randn(4096, 4096, device="cuda").to(dtype) for _ in range(2))
    return {"eager": lambda: a @ b}


def adamw():
    p = torch.nn.Parameter(torch.randn(ROWS * COLUMNS, device="cuda"))
    p.grad = torch.randn_like(p)
    return {"fused": torch.optim.AdamW([p], fused=True).step}


def attention(dtype, causal, D, T, B, H, backward):
    q, k, v, g = (torch.randn(B, T, H, D, device="cuda").to(dtype).transpose(1, 2) for _ in range(4))
    runs = {}
    for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION):
        def forward(backend=backend):
            with sdpa_kernel(backend):
                return F.scaled_dot_product_attention(q, k, v, is_causal=causal)

        with contextlib.suppress(RuntimeError):  # not for this type
            forward()
            if not backward:
                runs[backend.name] = forward
                continue
            for x in (q, k, v):
                x.requires_grad_()
            y = forward()
            runs[backend.name] = lambda y=y: torch.autograd.grad(y, (q, k, v), g, retain_graph=True)
    return runs


def layer(heads, B, T, backward, compiled):
    module = hybrid_torch.HybridAttentionLayer(512, heads, T // 2 + 1).cuda()
    x = torch.randn(B, T, 512, device="cuda", requires_grad=True)
    cotangent = torch.randn(B, T, 512, device="cuda")

    def run(f):
        if not backward:
            with torch.no_grad():
                return f(x)
        module.zero_grad()
        x.grad = None
        return f(x).backward(cotangent)

    if not compiled:
        return {"eager": lambda: run(module)}
    runs = {}
    # In CUDA graphs, too, where launches take longer than what they launch.
    for mode in ("default", "reduce-overhead") if B * T <= 2048 else ("default",):
        f = torch.compile(module, mode=mode, dynamic=False)
        runs["compiled" if mode == "default" else "compiled, CUDA graphs"] = lambda f=f: run(f)
    return runs


class Block(torch.nn.Module):
    def __init__(self, C, H):
        super().__init__()
        self.H, self.norm1, self.norm2 = H, torch.nn.LayerNorm(C), torch.nn.LayerNorm(C)
        self.qkv, self.out = torch.nn.Linear(C, 3 * C), torch.nn.Linear(C, C)
        self.fc1, self.fc2 = torch.nn.Linear(C, 4 * C), torch.nn.Linear(4 * C, C)

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(B, T, 3, self.H, C // self.H).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(B, T, C))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x)), approximate="tanh"))


class Gpt2(torch.nn.Module):
    def __init__(self, V=50304, C=768, H=12, layers=12, T=1024):
        super().__init__()
        self.tok, self.pos = torch.nn.Embedding(V, C), torch.nn.Embedding(T, C)
        self.blocks = torch.nn.Sequential(*(Block(C, H) for _ in range(layers)))
        self.norm, self.head = torch.nn.LayerNorm(C), torch.nn.Linear(C, V, bias=False)
        for p in (self.tok.weight, self.pos.weight):
            torch.nn.init.normal_(p, std=0.02)
        self.head.weight = self.tok.weight

    def forward(self, ids, targets):
        x = self.blocks(self.tok(ids) + self.pos.weight[: ids.shape[1]])
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1), targets.flatten())


def gpt2(compiled, B=16, T=1024):
    model = Gpt2(T=T).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1, fused=True)
    ids = torch.randint(0, 50304, (B, T + 1), device="cuda")
    f = torch.compile(model) if compiled else model

    def step():
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16):
            loss = f(ids[:, :-1], ids[:, 1:])
        loss.backward()
        optimizer.step()

    return {"compiled" if compiled else "eager": step}


def rows(eager_only):
    """(name, size, make) of all, and whether it is compiled."""
    def text(dtype):
        return {torch.float32: "f32", torch.bfloat16: "bf16"}[dtype]

    for dtype in (torch.float32, torch.bfloat16):
        for name in ("copy", "add", "gelu", "softmax", "layer_norm"):
            yield name, f"{text(dtype)} {ROWS} x {COLUMNS}", lambda a=(name, dtype): moving(*a), False
        yield "matrix product", f"{text(dtype)} 4096 x 4096 x 4096", lambda a=dtype: product(a), False
    yield "AdamW", f"f32 {ROWS * COLUMNS}", adamw, False
    narrow, wide = (True, 64, 4096, 4, 32), (False, 128, 8192, 2, 16)
    for dtype, size in ((torch.bfloat16, narrow), (torch.bfloat16, wide), (torch.float32, narrow)):
        for backward in (False, True):
            causal, D, T, B, H = size
            yield ("attention backward" if backward else "attention",
                   f"{text(dtype)} {'causal' if causal else 'full'} D={D} T={T} B={B} H={H}",
                   lambda a=(dtype, *size, backward): attention(*a), False)
    for compiled in (False,) if eager_only else (False, True):
        for B, T in SIZES:
            for name, heads in CONFIGURATIONS.items():
                for backward in (False, True):
                    yield (name, f"f32 ({B},{T}) forward{' + backward' if backward else ''}",
                           lambda a=(heads, B, T, backward, compiled): layer(*a), compiled)
        yield "GPT-2 124M step", "bf16 (16,1024)", lambda a=compiled: gpt2(a), compiled


def measure(row, seconds, lock_file):
    name, size, make, _ = row
    results = []
    with contextlib.suppress(KeyboardInterrupt):
        try:
            runs = make()
            for how, run in runs.items():
                for _ in range(3):
                    run()  # compiles
                with open(lock_file, "w") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX)
                    times = samples(run, seconds)
                results.append({"name": name, "size": size, "how": how, "seconds_median": statistics.median(times),
                                "seconds_quartiles": statistics.quantiles(times, n=4)[::2]})
        except Exception as error:  # the others may work
            results.append({"name": name, "size": size, "error": f"{type(error).__name__}: {error}"[:300]})
    torch.compiler.reset()
    torch.cuda.empty_cache()
    return results


def work(index, workers, options, lock_file, queue):
    """Every so-manieth of the rows that are compiled."""
    torch.set_num_threads(1)
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    own = [row for row in rows(False) if row[3] and options.only in f"{row[0]} {row[1]}"][index::workers]
    for row in own:
        queue.put(measure(row, options.seconds, lock_file))
    queue.put(None)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", required=True)
    parser.add_argument("--seconds", type=float, default=0.5, help="at most so long for a row, beside its warm-up")
    parser.add_argument("--only", default="", help="rows whose name and size contain this")
    parser.add_argument("--eager", action="store_true", help="compile nothing")
    parser.add_argument("--workers", type=int, default=min(14, os.cpu_count() or 1))
    options = parser.parse_args()
    lock_file = os.path.join(tempfile.mkdtemp(), "lock")
    found = []

    def add(results):
        for r in results:
            found.append(r)
            told = r.get("error") or f"{1e3 * r['seconds_median']:.4g} ms"
            print(f"{r['name']:18} {r['size']:38} {r.get('how', ''):22} {told}", flush=True)
        with open(options.out + ".part", "w") as file:
            json.dump({"torch": torch.__version__, "device": torch.cuda.get_device_name(), "rows": found}, file, indent=1)
        os.replace(options.out + ".part", options.out)

    for row in rows(True):
        if options.only in f"{row[0]} {row[1]}":
            add(measure(row, options.seconds, lock_file))
    if options.eager:
        return
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    workers = [context.Process(target=work, args=(i, options.workers, options, lock_file, queue), daemon=True)
               for i in range(options.workers)]
    for worker in workers:
        worker.start()
    left = len(workers)
    while left:
        results = queue.get()
        if results is None:
            left -= 1
        else:
            add(results)


if __name__ == "__main__":
    main()
