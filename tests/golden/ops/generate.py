"""Asks PyTorch (and SciPy for the cosine transform) what ops give on a few thousand random calls.

    python generate.py        writes calls.safetensors beside this file; needs torch, numpy, scipy, safetensors

Each call is one line of the file's metadata, "name key=value ...", under its number; tensors
"<number>.0", "<number>.1", ... are its inputs and "<number>.y" its result; complex ones are pairs of
real numbers and have a "c" behind their name. Sizes are small, odd and sometimes zero; some inputs
hold inf, nan, -0 and denormals. test_golden_ops.cpp makes the same calls.
"""
import pathlib

import numpy as np
import scipy.fft
import torch
from safetensors.torch import save_file

rng = np.random.default_rng(20261124)
FLOAT = (torch.float32, torch.float64)
ALL_FLOAT = FLOAT + (torch.bfloat16,)
COMPLEX = (torch.complex64, torch.complex128)
INT = (torch.int64, torch.int32)
tensors, calls = {}, []


def shape(low=0, high=3, zero=True):
    sizes = [1, 1, 2, 3, 4, 5, 7] + ([0] if zero else [])
    return tuple(int(rng.choice(sizes)) for _ in range(rng.integers(low, high + 1)))


def noise(size, dtype, special=False, positive=False, scale=2.0):
    if dtype == torch.bool:
        return torch.from_numpy(np.asarray(rng.random(size) < 0.5))
    if dtype in INT:
        return torch.from_numpy(np.asarray(rng.integers(-9, 10, size))).to(dtype)
    x = rng.standard_normal(size) * scale
    if positive:
        x = np.abs(x) + 0.05
    x = np.asarray(x)
    if dtype in COMPLEX:
        return torch.from_numpy(np.asarray(x + 1j * rng.standard_normal(size))).to(dtype)
    if special and x.size:
        values = np.array([np.inf, -np.inf, np.nan, -0.0, 0.0, 1e-310 if dtype == torch.float64 else 1e-40, 88.0, -88.0])
        places = rng.random(size) < 0.4
        x = np.where(places, rng.choice(values, size), x)
    return torch.from_numpy(np.asarray(x)).to(dtype)


def call(name, inputs, result, **options):
    number = len(calls)
    calls.append(" ".join([name] + [f"{k}={v}" for k, v in options.items()]))
    for i, x in enumerate(inputs):
        tensors[f"{number}.{i}"] = x.contiguous().clone()
    tensors[f"{number}.y"] = result.contiguous().clone()


def axis_of(x):
    return int(rng.integers(-x.dim(), x.dim()))


def unary():
    functions = dict(neg=torch.neg, abs=torch.abs, sign=torch.sign, exp=torch.exp, expm1=torch.expm1, log=torch.log,
                     log1p=torch.log1p, sqrt=torch.sqrt, rsqrt=torch.rsqrt, square=torch.square,
                     reciprocal=torch.reciprocal, sin=torch.sin, cos=torch.cos, tanh=torch.tanh, sigmoid=torch.sigmoid,
                     softplus=torch.nn.functional.softplus, erf=torch.erf, relu=torch.relu,
                     gelu=torch.nn.functional.gelu, silu=torch.nn.functional.silu, floor=torch.floor, round=torch.round,
                     isnan=torch.isnan, isinf=torch.isinf, isfinite=torch.isfinite,
                     gelu_tanh=lambda x: torch.nn.functional.gelu(x, approximate="tanh"))
    for name, f in functions.items():
        for dtype in ALL_FLOAT:
            for special in (False, False, True):
                x = noise(shape(), dtype, special)
                call(name, [x], f(x))
    for name in ("neg", "abs", "square", "exp", "reciprocal"):
        for dtype in COMPLEX:
            x = noise(shape(), dtype)
            call(name, [x], functions[name](x))
    for name in ("neg", "abs", "sign", "square"):
        for dtype in INT:
            x = noise(shape(), dtype)
            call(name, [x], functions[name](x))
    for dtype in FLOAT:
        for _ in range(6):
            x = noise(shape(), dtype, True)
            low, high = sorted(rng.integers(-3, 4, 2).tolist())
            call("clamp", [x], torch.clamp(x, low, high), low=low, high=high)
            p = float(rng.choice([0, 1, 2, 3, -1, 0.5, -2, 1.5]))
            call("pow_number", [x], torch.pow(x, p), p=p)


def broadcast_pair():
    a = shape(zero=bool(rng.random() < 0.2))
    b = [1 if rng.random() < 0.3 else n for n in a][int(rng.integers(0, len(a) + 1)):]
    return (a, tuple(b)) if rng.random() < 0.5 else (tuple(b), a)


def binary():
    functions = dict(add=torch.add, sub=torch.sub, mul=torch.mul, div=torch.div, maximum=torch.maximum,
                     minimum=torch.minimum, pow=torch.pow, eq=torch.eq, ne=torch.ne, lt=torch.lt, le=torch.le,
                     gt=torch.gt, ge=torch.ge)
    for name, f in functions.items():
        for dtype in ALL_FLOAT + INT + COMPLEX:
            if dtype in COMPLEX and name in ("maximum", "minimum", "lt", "le", "gt", "ge", "pow"):
                continue
            if dtype in INT and name in ("div", "pow"):
                continue
            for special in (False, True) if dtype in ALL_FLOAT else (False,):
                for _ in range(2):
                    a, b = broadcast_pair()
                    x, y = noise(a, dtype, special), noise(b, dtype, special)
                    call(name, [x, y], f(x, y))
    for dtype in FLOAT + (torch.int64, torch.bool) + COMPLEX:
        for _ in range(3):
            a, b = broadcast_pair()
            c, x, y = noise(a, torch.bool), noise(a, dtype), noise(b, dtype)
            call("where", [c, x, y], torch.where(c, x, y))


def reductions():
    def axes_of(x):
        count = int(rng.integers(1, x.dim() + 1))
        return sorted(rng.choice(x.dim(), count, replace=False).tolist())

    many = dict(sum=torch.sum, mean=torch.mean, var=lambda x, d, keepdim: torch.var(x, d, keepdim=keepdim),
                stddev=lambda x, d, keepdim: torch.std(x, d, keepdim=keepdim), logsumexp=torch.logsumexp,
                norm=lambda x, d, keepdim: torch.linalg.vector_norm(x, 2, d, keepdim=keepdim),
                any=torch.any, all=torch.all)
    for name, f in many.items():
        for dtype in FLOAT + ((torch.int64, torch.int32, torch.bool) if name in ("sum", "any", "all") else ()) + (
                COMPLEX if name in ("sum", "mean", "norm") else ()):
            for special in (False, False, True):
                x = noise(shape(1, 4), dtype, special and dtype in FLOAT)
                axes, keep = axes_of(x), bool(rng.random() < 0.5)
                call(name, [x], f(x, axes, keepdim=keep), axes=",".join(map(str, axes)), keep=int(keep))
    for dtype in FLOAT + INT:
        for special in (False, True):
            for _ in range(4):
                x = noise(shape(1, 3, zero=False), dtype, special and dtype in FLOAT)
                axis, keep = axis_of(x), bool(rng.random() < 0.5)
                for name, f in dict(max=torch.max, min=torch.min).items():
                    values, indices = f(x, axis, keepdim=keep)
                    call(name, [x], values, axis=axis, keep=int(keep))
                    call("arg" + name, [x], indices, axis=axis, keep=int(keep))
    for dtype in FLOAT + (torch.int64,):
        for _ in range(8):
            x = noise(shape(1, 3), dtype)
            axis = axis_of(x)
            call("cumsum", [x], torch.cumsum(x, axis), axis=axis)


def products():
    for dtype in FLOAT + COMPLEX + (torch.bfloat16,):
        for _ in range(20):
            m, k, n = (int(v) for v in rng.integers(1, 8, 3))
            batch, other = broadcast_pair()
            a = batch + (m, k) if rng.random() < 0.85 else (k,)
            b = other + (k, n) if rng.random() < 0.85 else (k,)
            x, y = noise(a, dtype), noise(b, dtype)
            call("matmul", [x, y], torch.matmul(x, y))
    for equation, sizes in {"ij,jk->ik": ("ij", "jk"), "bhtd,bhsd->bhts": ("bhtd", "bhsd"), "ii->i": ("ii",),
                            "ij->": ("ij",), "i,j->ji": ("i", "j"), "abc,cd,bde->ea": ("abc", "cd", "bde"),
                            "bij,bj->bi": ("bij", "bj"), "iij,jk->ki": ("iij", "jk")}.items():
        for dtype in FLOAT + COMPLEX:
            size = {c: int(rng.integers(1, 6)) for c in "abcdehijkst"}
            inputs = [noise(tuple(size[c] for c in s), dtype) for s in sizes]
            call("einsum", inputs, torch.einsum(equation, *inputs), equation=equation)


def fourier():
    for norm in ("backward", "ortho", "forward"):
        for _ in range(24):
            x = noise(shape(1, 3, zero=False), rng.choice([torch.float32, torch.float64]))
            axis = axis_of(x)
            n = x.shape[axis] if rng.random() < 0.5 else int(rng.integers(1, 12))
            z = torch.complex(x, torch.from_numpy(rng.standard_normal(x.shape)).to(x.dtype))
            options = dict(axis=axis, n=n, norm=norm)
            call("rfft", [x], torch.fft.rfft(x, n, axis, norm), **options)
            call("fft", [z], torch.fft.fft(z, n, axis, norm), **options)
            call("ifft", [z], torch.fft.ifft(z, n, axis, norm), **options)
            call("irfft", [z], torch.fft.irfft(z, n, axis, norm), **options)
    for _ in range(20):
        x = noise(shape(1, 3, zero=False), torch.float64)
        axis = axis_of(x)
        call("dct", [x], torch.from_numpy(scipy.fft.dct(x.numpy(), axis=axis, norm="ortho")), axis=axis)
        call("idct", [x], torch.from_numpy(scipy.fft.idct(x.numpy(), axis=axis, norm="ortho")), axis=axis)


def shapes():
    for dtype in FLOAT + (torch.int64, torch.bool, torch.complex64, torch.bfloat16):
        for _ in range(6):
            x = noise(shape(1, 3, zero=False), dtype)
            axis = axis_of(x)
            call("flip", [x], torch.flip(x, [axis]), axis=axis)
            shift = int(rng.integers(-9, 10))
            call("roll", [x], torch.roll(x, shift, axis), axis=axis, shift=shift)
            times = [int(v) for v in rng.integers(1, 4, x.dim() + int(rng.integers(0, 2)))]
            call("repeat", [x], x.repeat(times), times=",".join(map(str, times)))
            widths = [int(v) for v in rng.integers(0, 3, 2 * int(rng.integers(1, x.dim() + 1)))]
            call("pad", [x], torch.nn.functional.pad(x, widths, value=1), widths=",".join(map(str, widths)))
            index = torch.from_numpy(rng.integers(0, x.shape[axis], int(rng.integers(0, 6))))
            call("index_select", [x, index], torch.index_select(x, axis, index), axis=axis)
            sizes = [int(rng.integers(1, n + 1)) for n in x.shape]
            sizes[axis] = int(rng.integers(0, 6))
            index = torch.from_numpy(rng.integers(0, x.shape[axis], sizes))
            call("gather", [x, index], torch.gather(x, axis, index), axis=axis)
            if dtype not in (torch.bool, torch.bfloat16):
                source = noise(tuple(sizes), dtype)
                call("scatter_add", [x, index, source], torch.scatter_add(x, axis, index, source), axis=axis)
            if x.dim() >= 2:
                offset = int(rng.integers(-3, 4))
                call("tril", [x], torch.tril(x, offset), offset=offset)
                call("triu", [x], torch.triu(x, offset), offset=offset)
    for dtype in FLOAT + (torch.int64,):
        for _ in range(10):
            x = torch.from_numpy(rng.permutation(30)[:int(rng.integers(1, 30))]).to(dtype)  # no two equal
            k, largest = int(rng.integers(0, len(x) + 1)), bool(rng.random() < 0.5)
            values, indices = torch.topk(x, k, largest=largest)
            call("topk", [x], indices, k=k, largest=int(largest))
    for start, end, steps in ((0, 1, 5), (3, -2, 7), (-1.5, 2.25, 1), (0, 0.7, 1001), (1, 1, 3), (0, 5, 0)):
        call("linspace", [], torch.linspace(start, end, steps, dtype=torch.float64), start=start, end=end, steps=steps)
    for start, end, step in ((0, 5, 1), (2, -3, -0.5), (0, 1, 0.3), (1, 1, 1)):
        call("arange", [], torch.arange(start, end, step, dtype=torch.float64), start=start, end=end, step=step)


def neural():
    F = torch.nn.functional
    for dtype in ALL_FLOAT:
        for special in (False, False, False, True):
            x = noise(shape(1, 3, zero=False), dtype, special and dtype in FLOAT)
            axis = axis_of(x)
            call("softmax", [x], F.softmax(x, axis), axis=axis)
            call("log_softmax", [x], F.log_softmax(x, axis), axis=axis)
        for _ in range(6):
            x = noise(shape(1, 3, zero=False), dtype)
            c = x.shape[-1]
            w, b = noise((c,), dtype), noise((c,), dtype)
            call("layer_norm", [x, w, b], F.layer_norm(x, (c,), w, b))
            call("rms_norm", [x, w], F.rms_norm(x, (c,), w, 1e-6))
            y = noise(x.shape, dtype)
            for reduction in ("mean", "sum", "none"):
                call("mse", [x, y], F.mse_loss(x, y, reduction=reduction), reduction=reduction)
                call("huber", [x, y], F.huber_loss(x, y, reduction=reduction, delta=0.8), reduction=reduction, delta=0.8)
                p = F.softmax(y, -1)
                call("kl_div", [x, p], F.kl_div(x, p, reduction=reduction), reduction=reduction)
            rows = noise((int(rng.integers(1, 6)), c), dtype)
            target = torch.from_numpy(rng.integers(0, c, rows.shape[0]))
            target[0] = -100 if rng.random() < 0.3 and len(target) > 1 else target[0]
            s = float(rng.choice([0, 0.1, 1]))
            call("cross_entropy", [rows, target], F.cross_entropy(rows, target, label_smoothing=s), smoothing=s)
            table = noise((6, c), dtype)
            ids = torch.from_numpy(rng.integers(0, 6, shape(1, 2)))
            call("embedding", [ids, table], F.embedding(ids, table))
            weight, bias = noise((4, c), dtype), noise((4,), dtype)
            call("linear", [x, weight, bias], F.linear(x, weight, bias))
            B, H, T, S, D = (int(v) for v in rng.integers(1, 6, 5))
            q, k, v = noise((B, H, T, D), dtype), noise((B, H, S, D), dtype), noise((B, H, S, D), dtype)
            call("attention", [q, k, v], F.scaled_dot_product_attention(q, k, v))
            mask = torch.from_numpy(rng.random((T, S)) < 0.6)
            mask[:, 0] = True
            call("attention", [q, k, v, mask], F.scaled_dot_product_attention(q, k, v, mask))
            T, C, K = (int(v) for v in rng.integers(1, 6, 3))
            signal, taps, shift = noise((2, T, C), dtype), noise((C, K), dtype), noise((C,), dtype)
            y = F.conv1d(F.pad(signal.transpose(1, 2), (K - 1, 0)), taps[:, None], shift, groups=C).transpose(1, 2)
            call("causal_conv1d", [signal, taps, shift], y)


def casts():
    types = FLOAT + (torch.bfloat16,) + COMPLEX + INT + (torch.bool,)
    for a in types:
        for b in types:
            x = noise(shape(zero=False), a)
            call("to", [x], x.to(b))
    for dtype in COMPLEX:
        for _ in range(4):
            z = noise(shape(), dtype)
            call("real", [z], z.real)
            call("imag", [z], z.imag)
            call("conj", [z], z.conj().resolve_conj())
            call("polar", [z.real.abs(), z.imag], torch.polar(z.real.abs(), z.imag.contiguous()))


if __name__ == "__main__":
    torch.manual_seed(0)
    import warnings
    warnings.simplefilter("ignore")
    for make in (unary, binary, reductions, products, fourier, shapes, neural, casts):
        make()
    for make in (unary, binary, reductions, products, fourier, neural):  # once more, other numbers
        make()
    path = pathlib.Path(__file__).with_name("calls.safetensors")
    flat = {k + "c" * v.is_complex(): torch.view_as_real(v).contiguous() if v.is_complex() else v for k, v in tensors.items()}
    save_file(flat, path, {str(i): text for i, text in enumerate(calls)})
    print(f"{len(calls)} calls, {path.stat().st_size / 1e6:.1f} MB")
