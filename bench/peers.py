"""The PyTorch side of `./run bench --peers`: hybrid_torch.py, eager, on the CPU.

A long-lived process beside ours, so that both can alternate in one run: one JSON object a line on
stdin, one a line on stdout, in order. It computes only between a request and its answer. Every
answer is an object; one with "error" (text) says what was wrong, and the process goes on.
End of input ends it. Before the first request it prints {"torch": version, "threads": n}.

A workload is built once and then run many times; a new one replaces it.

    {"op": "threads", "n": 2}                      -> {"threads": 2}

    {"op": "hybrid", "head_types": ["standard", ...], "d_model": 512, "data": PATH}
    {"op": "gpt", "data": PATH}                    -> {"parameters": count}
    {"op": "expression", "n": n, "code": "x + y"}  -> {"parameters": 0}; no data file: see Expression

        data is a safetensors file that holds `param.NAME` for every name of the state dict, and
        for hybrid  `input.x` [B,T,M], `cotangent` [B,T,M]; max_seq_len is T, the rest defaults;
        for gpt     `input.ids`, `input.targets` [16,256] i64; its layers and widths: see Gpt.

    {"op": "outputs", "mode": MODE, "path": PATH}  -> {"path": PATH}

        runs once and writes to compare: for hybrid `output`, with forward_backward also `grad.x`
        and `grad.NAME`; for gpt `loss` and, with train_step, `final.NAME`, the parameters after it.

    {"op": "time", "mode": MODE, "repeats": n, "batch": m} -> {"seconds": [n means of m runs]}

MODE is forward or forward_backward for hybrid, forward or train_step for gpt, and forward or
history for an expression. forward runs without a tape, history makes one. forward_backward starts from no gradients and ends with those of x and of every
parameter. train_step is loss, backward and one AdamW step: the model moves on, from call to call.
The first repeat after a pause, or after the other side ran, is slow: ask for one more and drop it.
On a machine busy with a third process no time means anything: threads spin, 2 ms become 100.
"""
import json
import math
import pathlib
import sys
import time

import torch
import torch.nn.functional as F

sys.dont_write_bytecode = True  # leave no __pycache__ in the sources
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests" / "golden"))
import hybrid_torch  # noqa: E402
import safetensors_file  # noqa: E402


def load(path):
    """The tensors of a data file, and the state dict in it."""
    tensors = {name: torch.from_numpy(a) for name, a in safetensors_file.read(path).items()}
    return tensors, {n.removeprefix("param."): t for n, t in tensors.items() if n.startswith("param.")}


class Hybrid:
    modes = ("forward", "forward_backward")

    def __init__(self, request):
        tensors, parameters = load(request["data"])
        self.x, self.cotangent = tensors["input.x"].requires_grad_(), tensors["cotangent"]
        bins = self.x.shape[1] // 2 + 1
        self.module = hybrid_torch.HybridAttentionLayer(
            request["d_model"], request["head_types"], bins
        )
        self.module.load_state_dict(parameters)

    def forward(self):
        with torch.no_grad():
            return {"output": self.module(self.x)}

    def forward_backward(self):
        self.module.zero_grad()
        self.x.grad = None
        output = self.module(self.x)
        output.backward(self.cotangent)
        gradients = {f"grad.{name}": p.grad for name, p in self.module.named_parameters()}
        return {"output": output, "grad.x": self.x.grad, **gradients}


class Gpt:
    """A GPT of 10.9 M parameters: 6 layers of 6 standard heads, d_model 384, T 256, 256 bytes."""

    modes = ("forward", "train_step")

    def __init__(self, request):
        tensors, parameters = load(request["data"])
        self.ids, self.targets = tensors["input.ids"], tensors["input.targets"]
        self.module = hybrid_torch.TransformerLM(256, 384, 6, ["standard"] * 6, max_seq_len=256)
        self.module.load_state_dict(parameters)
        self.adamw = torch.optim.AdamW(self.module.parameters(), lr=1e-3, weight_decay=0.1)

    def loss(self):
        logits = self.module(self.ids)
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), self.targets.view(-1))

    def forward(self):
        with torch.no_grad():
            return {"loss": self.loss()}

    def train_step(self):
        self.adamw.zero_grad()
        loss = self.loss()
        loss.backward()
        self.adamw.step()
        return {"loss": loss, **{f"final.{name}": p for name, p in self.module.named_parameters()}}


class Expression:
    """One line of Python over the tensors of BenchInputs in tests/op_cases.h, made like those in
    bench/ops.cpp; with "rows", x and z have so many rows, and f is the spectrum of x."""

    modes = ("forward", "history")

    def __init__(self, request):
        n = request["n"]
        C, D = min(n, 1000), min(n, 50)
        R, T, side = n // C, min(n // D, 200), min(math.isqrt(n), 1000)
        shape = (request["rows"], -1) if "rows" in request else (-1,)

        def spread(n, offset):
            x = torch.arange(n, dtype=torch.float64) * 0.6180339887498949 + offset
            return ((x - x.floor()) * 4 - 2).float()

        def square():
            return spread(side * side, 0.1).view(side, side)

        makers = {
            "x": lambda: spread(n, 0.1).view(shape),
            "y": lambda: spread(n, 0.7).abs().view(shape) + 0.01,
            "m": lambda: self.x.view(R, C),
            "w": lambda: self.y.view(R, C),
            "z": lambda: torch.complex(self.x, self.y),
            "f": lambda: torch.fft.rfft(self.x),
            "h": lambda: self.x.bfloat16(),
            "k": lambda: self.y.bfloat16(),
            "b": lambda: self.x > 0,
            "c": lambda: self.y > 1,
            "g": lambda: (torch.arange(n) * 7919 % C).view(R, C),
            "t": lambda: torch.arange(R) * 7919 % C,
            "r": lambda: torch.arange(R) * 7919 % R,
            "q": lambda: self.x.view(-1, 1, T, D),
            "s": square,
            "u": lambda: torch.complex(square(), square().T.contiguous()),
            "v": lambda: spread(4 * C, 0.3).view(C, 4),
        }
        self.x, self.y = makers["x"](), makers["y"]()
        code = f"lambda: {request['code']}"
        used = set(compile(code, "expression", "eval").co_consts[0].co_names) & set(makers)
        names = {name: makers[name]() for name in used}
        fixed = {"torch": torch, "F": F, "n": self.x.shape[-1]}
        self.function = eval(code, {**names, **fixed})
        leaves = {
            name: x.detach().requires_grad_() if x.is_floating_point() or x.is_complex() else x
            for name, x in names.items()
        }
        self.with_history = eval(code, {**leaves, **fixed})

    def forward(self):
        with torch.no_grad():
            return self.function()

    def history(self):
        return self.with_history()

    def outputs(self):
        y = self.forward()
        return {"output": torch.view_as_real(y.resolve_conj()) if y.is_complex() else y.float()}

    def parameters(self):
        return []

    @property
    def module(self):
        return self


class Peer:
    """Holds the workload and answers requests."""

    workload = None

    def threads(self, request):
        torch.set_num_threads(request["n"])
        return {"threads": torch.get_num_threads()}

    def build(self, request):
        self.workload = None  # two at once would only take memory
        self.workload = {"hybrid": Hybrid, "gpt": Gpt, "expression": Expression}[request["op"]](request)
        return {"parameters": sum(p.numel() for p in self.workload.module.parameters())}

    def run(self, request):
        if self.workload is None or request["mode"] not in self.workload.modes:
            raise ValueError(f"no workload that has the mode {request['mode']}")
        return getattr(self.workload, request["mode"])

    def outputs(self, request):
        run = self.run(request)
        tensors = self.workload.outputs() if isinstance(self.workload, Expression) else run()
        safetensors_file.write(request["path"], {n: t.detach().numpy() for n, t in tensors.items()})
        return {"path": request["path"]}

    def time(self, request):
        run, seconds = self.run(request), []
        batch = range(request["batch"])
        for _ in range(request["repeats"]):
            start = time.perf_counter()
            for _ in batch:
                run()
            seconds.append((time.perf_counter() - start) / len(batch))
        return {"seconds": seconds}


if __name__ == "__main__":
    peer = Peer()
    ops = {"threads": peer.threads, "outputs": peer.outputs, "time": peer.time}
    ops |= {"hybrid": peer.build, "gpt": peer.build, "expression": peer.build}
    print(json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads()}), flush=True)
    for line in sys.stdin:
        try:
            request = json.loads(line)
            answer = ops[request["op"]](request)
        except Exception as error:  # the caller decides what a refused request means
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
