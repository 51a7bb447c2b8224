"""Writes the golden data of this folder: what hybrid_torch.py computes, for the C++ tests to match.

Run by hand, with a Python that has PyTorch and numpy, when a case is added:

    python tests/golden/generate.py             # every case
    python tests/golden/generate.py spectral    # those whose name contains a word

A file holds one case: the options of the module as strings in `__metadata__`, and tensors named as
README.md beside this file says. Parameters and inputs are numpy random numbers in fp32, seeded by
the case's name, so that they are the same bits wherever this runs. Outputs and gradients come from
the same values in fp64, rounded once to fp32: the bounds of the tests measure the C++ side alone.
Before a case is written PyTorch's own fp32 has to meet those bounds: a test that fails says something
about the C++ side, never that the case is badly conditioned.
"""
import math
import pathlib
import sys
import zlib

import numpy as np
import torch
import torch.nn.functional as F

import hybrid_torch as reference
import safetensors_file

FOLDER = pathlib.Path(__file__).parent
FORWARD_BOUND = 1e-5  # of the largest output
GRADIENT_BOUND = 2e-5  # norm of the difference over the norm, per tensor
ZERO_BOUND = 1e-6  # of the largest gradient norm, for a gradient that is zero (curvature at T = 1): rounding may remain
TRAINED_BOUND = 2e-4  # norm of the difference over the norm of what training changed, per tensor

S, P, H = "standard", "spectral", "holonomy"


def to_numpy(t):
    """Floats become fp32; ids and masks stay what they are."""
    t = t.detach().cpu()
    return (t.float() if t.is_floating_point() else t).numpy()


def randomise(module, rng):
    """Sets every parameter to a value whose absence or misuse shows: no zeros, no ones, no tiny filters."""
    for name, p in module.named_parameters():
        noise = torch.from_numpy(rng.standard_normal(tuple(p.shape), dtype=np.float32))
        leaf = name.split(".")[-1]
        if leaf == "log_gain":
            value = reference.smooth_low_pass(p.shape[1]) + 0.3 * noise
        elif leaf == "phase":
            value = 0.5 * noise
        elif leaf == "curvature":
            value = noise / math.sqrt(p.shape[-1])
        elif "norm" in name:
            value = 0.2 * noise + (1.0 if leaf == "weight" else 0.0)
        elif leaf == "bias":
            value = 0.1 * noise
        elif "tok" in name or "pos" in name:
            value = 0.5 * noise
        else:  # Linear.weight [out, in]
            value = noise / math.sqrt(p.shape[1])
        p.data.copy_(value)


def check_conditioning(case, exact, fp32):
    """PyTorch's fp32 against its fp64, to the bounds that the C++ side must meet."""
    largest = max([t.norm().item() for name, t in exact.items() if name.startswith("grad.")], default=0.0)
    for name, want in exact.items():
        difference = fp32[name].double() - want
        if name.startswith("grad."):
            error, bound = difference.norm().item(), GRADIENT_BOUND * want.norm().item() or ZERO_BOUND * largest
        else:
            error, bound = difference.abs().max().item(), FORWARD_BOUND * want.abs().max().item()
        require(case, name, error, bound)


def require(case, name, error, bound):
    if not error <= bound:
        raise SystemExit(f"{case}: {name} is badly conditioned: fp32 is off by {error:.2g}, the bound is {bound:.2g}")


def gradients(module):
    """grad.<name>; zeros where a parameter takes no part."""
    return {
        f"grad.{name}": (torch.zeros_like(p) if p.grad is None else p.grad.clone()) for name, p in module.named_parameters()
    }


def as_strings(options):
    text = lambda v: str(v).lower() if isinstance(v, bool) else ", ".join(v) if isinstance(v, list) else str(v)
    return {name: text(value) for name, value in options.items()}


# ---- one module: output and every gradient under a random cotangent


def run_module(module, x, cotangent, masks, dtype):
    module.zero_grad()
    module.to(dtype)
    x = x.to(dtype, copy=True).requires_grad_()
    output = module(x, **masks)
    output.backward(cotangent.to(dtype))
    return {"output": output.detach(), "grad.x": x.grad, **gradients(module)}


def write_module(name, module, rng, B, T, d_model, masks, metadata):
    masks = {key: torch.from_numpy(value) for key, value in masks.items()}
    randomise(module, rng)
    parameters = {f"param.{key}": to_numpy(value) for key, value in module.state_dict().items()}
    x, cotangent = (torch.from_numpy(rng.standard_normal((B, T, d_model), dtype=np.float32)) for _ in range(2))
    exact = run_module(module, x, cotangent, masks, torch.float64)
    check_conditioning(name, exact, run_module(module, x, cotangent, masks, torch.float32))
    tensors = {"input.x": x.numpy(), "cotangent": cotangent.numpy(), **parameters}
    tensors |= {f"input.{key}": value.numpy() for key, value in masks.items()}
    tensors |= {key: to_numpy(value) for key, value in exact.items()}
    safetensors_file.write(FOLDER / f"{name}.safetensors", tensors, as_strings(metadata))


def hybrid(name, head_types, T, B=2, d_model=64, max_seq_len=64, masks=lambda rng, B, H, T: {}, **options):
    """One HybridAttentionLayer. options: causal, residual, use_dct, token_gate."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    settings = {"causal": False, "residual": True, "use_dct": False, "token_gate": False} | options
    module = reference.HybridAttentionLayer(d_model, head_types, max_seq_len // 2 + 1, **settings)
    metadata = {"kind": "hybrid", "d_model": d_model, "head_types": head_types, "max_seq_len": max_seq_len, **settings}
    write_module(name, module, rng, B, T, d_model, masks(rng, B, len(head_types), T), metadata)


def spectral(name, T, B=2, d_model=24, n_heads=3, max_seq_len=32, masks=lambda rng, B, H, T: {}, **options):
    """One SpectralAttention. options: causal, use_dct, token_gate."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    settings = {"causal": False, "use_dct": False, "token_gate": False} | options
    module = reference.SpectralAttention(d_model, n_heads, max_seq_len // 2 + 1, **settings)
    metadata = {"kind": "spectral", "d_model": d_model, "n_heads": n_heads, "max_seq_len": max_seq_len, **settings}
    write_module(name, module, rng, B, T, d_model, masks(rng, B, n_heads, T), metadata)


def causal_filter(max_seq_len):
    """causal_taps alone: [H,F] log_gain and phase -> [H,K] taps, and both gradients."""
    name = f"causal_taps_{max_seq_len}"
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    bins = max_seq_len // 2 + 1
    draw = lambda *shape: torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
    log_gain, phase = reference.smooth_low_pass(bins) + 0.3 * draw(3, bins), 0.5 * draw(3, bins)
    cotangent = draw(3, max(2 * (bins - 1), 1))

    def run(dtype):
        g, p = log_gain.to(dtype, copy=True).requires_grad_(), phase.to(dtype, copy=True).requires_grad_()
        taps = reference.causal_taps(g, p)
        taps.backward(cotangent.to(dtype))
        return {"output": taps.detach(), "grad.log_gain": g.grad, "grad.phase": p.grad}

    exact = run(torch.float64)
    check_conditioning(name, exact, run(torch.float32))
    tensors = {"param.log_gain": log_gain.numpy(), "param.phase": phase.numpy(), "cotangent": cotangent.numpy()}
    tensors |= {key: to_numpy(value) for key, value in exact.items()}
    safetensors_file.write(FOLDER / f"{name}.safetensors", tensors, as_strings({"kind": "causal_taps", "max_seq_len": max_seq_len}))


def initial_filter(name):
    """smooth_low_pass: the initial log_gain before its noise, one tensor for each max_seq_len."""
    lengths = [1, 2, 8, 9, 10, 64, 1024]
    tensors = {f"max_seq_len.{n}": to_numpy(reference.smooth_low_pass(n // 2 + 1)) for n in lengths}
    safetensors_file.write(FOLDER / f"{name}.safetensors", tensors, {"kind": "initial_filter"})


# ---- masks, True = may attend; each a function of (rng, B, H, T)


def scattered(*shape):
    """A random mask of this shape in which about two in three pairs may attend; letters name the sizes."""
    return lambda rng, B, H, T: {"mask": rng.random([{"B": B, "H": H, "T": T, "1": 1}[s] for s in shape]) < 0.67}


def with_empty_rows(rng, B, H, T):
    """Rows with nothing to attend to: two whole stretches and every row of one head."""
    mask = rng.random((B, H, T, T)) < 0.67
    mask[0, 0, 3:7] = False
    mask[-1, :, T - 2 :] = False
    mask[0, H - 1] = False
    return {"mask": mask}


def single_key(rng, B, H, T):
    """Every row may attend to one key only: whole tiles hold nothing."""
    return {"mask": np.arange(T)[None, :] == rng.integers(0, T, T)[:, None]}


def padding(rng, B, H, T):
    """Sequences of different lengths; with more than two, the last is nothing but padding."""
    lengths = [T - 1 - (T // 3) * b for b in range(B)]
    if B > 2:
        lengths[-1] = 0
    return {"token_mask": np.arange(T)[None, :] < np.array(lengths)[:, None]}


def left_padding(rng, B, H, T):
    """Padding in front: with causal the first rows have nothing to attend to."""
    return {"token_mask": np.arange(T)[None, :] >= np.arange(2, 2 + B)[:, None]}


def mask_and_padding(rng, B, H, T):
    return with_empty_rows(rng, B, H, T) | padding(rng, B, H, T)


# ---- whole models: logits, loss, gradients, ten AdamW steps


def decayed(name):
    """Whether the parameter of this name belongs to the group that AdamW decays, in the run with two groups."""
    leaf = name.split(".")[-1]
    return not ("norm" in name or leaf in ("bias", "log_gain", "phase") or name == "pos.weight")


# The bias of the keys has gradient zero (softmax forgets what all keys share); AdamW divides the rounding that
# is left there by its own size. An eps well above that rounding keeps the comparison about AdamW.
OPTIMIZER = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-5, "weight_decay": 0.1, "steps": 10}


def cross_entropy(model, batch):
    logits = model(batch["ids"], *([batch["token_mask"]] if "token_mask" in batch else []))
    return logits, F.cross_entropy(logits.reshape(-1, logits.shape[-1]), batch["targets"].reshape(-1))


def run_model(model, initial, batch, dtype):
    model.to(dtype).load_state_dict(initial)
    model.zero_grad()
    logits, loss = cross_entropy(model, batch)
    loss.backward()
    return {"logits": logits.detach(), "loss": loss.detach(), **gradients(model)}


def train(model, initial, batches, two_groups, dtype):
    """Ten AdamW steps from the initial values: the loss before each step [10], and the final state."""
    model.to(dtype).load_state_dict(initial)
    named = list(model.named_parameters())
    groups = [{"params": [p for _, p in named]}]
    if two_groups:
        groups = [
            {"params": [p for n, p in named if decayed(n)]},
            {"params": [p for n, p in named if not decayed(n)], "weight_decay": 0.0},
        ]
    o = OPTIMIZER
    adamw = torch.optim.AdamW(groups, lr=o["lr"], betas=(o["beta1"], o["beta2"]), eps=o["eps"], weight_decay=o["weight_decay"])
    losses = []
    for step in range(o["steps"]):
        adamw.zero_grad()
        loss = cross_entropy(model, {key: value[step] for key, value in batches.items()})[1]
        loss.backward()
        adamw.step()
        losses.append(loss.detach())
    return torch.stack(losses), {key: value.clone() for key, value in model.state_dict().items()}


def write_model(name, model, rng, make_batch, metadata, runs):
    randomise(model, rng)
    initial = {key: value.clone() for key, value in model.state_dict().items()}
    draw = lambda: {key: torch.from_numpy(value) for key, value in make_batch(rng).items()}
    batch, later = draw(), [draw() for _ in range(OPTIMIZER["steps"])]
    batches = {key: torch.stack([b[key] for b in later]) for key in batch}
    exact = run_model(model, initial, batch, torch.float64)
    check_conditioning(name, exact, run_model(model, initial, batch, torch.float32))
    tensors = {f"param.{key}": to_numpy(value) for key, value in initial.items()}
    tensors |= {f"input.{key}": value.numpy() for key, value in batch.items()}
    tensors |= {f"steps.{key}": value.numpy() for key, value in batches.items()}
    tensors |= {key: to_numpy(value) for key, value in exact.items()}
    for run in runs:  # one_group: everything decays; two_groups: see decayed
        losses, final = train(model, initial, batches, run == "two_groups", torch.float64)
        fp32 = train(model, initial, batches, run == "two_groups", torch.float32)[1]
        for key, value in final.items():
            error, change = (fp32[key] - value).norm().item(), (value - initial[key]).norm().item()
            require(name, f"{run}.final.{key}", error, TRAINED_BOUND * change)
        tensors[f"{run}.loss"] = to_numpy(losses)
        tensors |= {f"{run}.final.{key}": to_numpy(value) for key, value in final.items()}
    safetensors_file.write(FOLDER / f"{name}.safetensors", tensors, as_strings(metadata | OPTIMIZER))


def lm(name, d_model, tie_weights, runs, B=2, T=32):
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    options = {"vocab_size": 61, "d_model": d_model, "layers": 2, "head_types": [S, P, H, S], "max_seq_len": 48}
    model = reference.TransformerLM(**options, tie_weights=tie_weights)
    ids = lambda rng: rng.integers(0, options["vocab_size"], (B, T))
    make_batch = lambda rng: {"ids": ids(rng), "targets": ids(rng)}
    write_model(name, model, rng, make_batch, {"kind": "lm", **options, "tie_weights": tie_weights}, runs)


def classifier(name, runs, B=4, T=23):
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    options = {"vocab_size": 37, "d_model": 32, "layers": 2, "head_types": [H, S, P, P], "max_seq_len": 40, "classes": 5}
    model = reference.TransformerClassifier(**options)

    def make_batch(rng):
        lengths = rng.integers(1, T + 1, (B, 1))
        lengths[-1] = 0  # a sequence of padding alone
        ids, targets = rng.integers(0, options["vocab_size"], (B, T)), rng.integers(0, options["classes"], B)
        return {"ids": ids, "targets": targets, "token_mask": np.arange(T)[None, :] < lengths}

    write_model(name, model, rng, make_batch, {"kind": "classifier", **options}, runs)


def cases():
    """(name, function, arguments) of every file."""
    add = lambda function, name, *args, **options: table.append((name, function, args, options))
    table = []

    # The acceptance criterion of the notebook, with every default.
    add(hybrid, "hybrid_512", [S] * 4 + [P] * 2 + [H] * 2, T=20, B=1, d_model=512, max_seq_len=1024)

    # The notebook's four example configurations, in its order of heads; T below, at and above max_seq_len.
    examples = {
        "balanced": [S, P, H, S, P, H, S, P],
        "spectral_heavy": [P] * 6 + [S, H],
        "standard_dominant": [S] * 6 + [P, H],
        "alternating": [S, P, H, S, P, H, S, S],
    }
    for (name, heads), T in zip(examples.items(), (31, 64, 97, 128)):
        add(hybrid, f"hybrid_{name}", heads, T=T, B=1)
        add(hybrid, f"hybrid_{name}_causal", heads, T=T, B=1, causal=True)

    # Every single type at every T; the number of heads gives d_head 8, 16, 32 and 64.
    for T, n in zip((1, 2, 31, 64, 97, 128), (8, 4, 2, 1, 4, 2)):
        for head_type in (S, P, H):
            add(hybrid, f"hybrid_{head_type}_T{T}", [head_type] * n, T=T, B=2 if T < 64 else 1)
    for head_type in (S, P, H):
        add(hybrid, f"hybrid_{head_type}_T97_causal", [head_type] * 2, T=97, B=1, causal=True)
    add(hybrid, "hybrid_mixed_T1", [S, P, H, H], T=1, causal=True)
    add(hybrid, "hybrid_mixed_T2", [H, P, S, P], T=2, causal=True)
    add(hybrid, "hybrid_no_residual", [S, P, H, P], T=31, B=3, residual=False)
    add(hybrid, "hybrid_odd_d_head", [S, P, H, S, P, H], T=37, d_model=42, causal=True)  # d_head 7

    # Masks; heads in an order that grouping changes, T past one tile.
    mixed = [H, S, H, S]
    for name, mask in {
        "TT": scattered("T", "T"), "BTT": scattered("B", "T", "T"), "B1TT": scattered("B", "1", "T", "T"),
        "BHTT": scattered("B", "H", "T", "T"), "empty_rows": with_empty_rows, "and_token_mask": mask_and_padding,
    }.items():
        add(hybrid, f"hybrid_mask_{name}", mixed, T=37, masks=mask)
    for name, mask in {
        "TT": scattered("T", "T"), "BHTT": scattered("B", "H", "T", "T"), "and_token_mask": mask_and_padding,
    }.items():
        add(hybrid, f"hybrid_mask_{name}_causal", mixed, T=37, masks=mask, causal=True)
    add(hybrid, "hybrid_mask_empty_rows_T97", mixed, T=97, B=1, masks=with_empty_rows)
    add(hybrid, "hybrid_mask_single_key_T150", mixed, T=150, B=1, masks=single_key)
    for causal, suffix in ((False, ""), (True, "_causal")):
        add(hybrid, f"hybrid_token_mask{suffix}", [S, P, H, P], T=37, B=3, masks=padding, causal=causal)
        add(hybrid, f"hybrid_token_mask_left{suffix}", [S, P, H, P], T=37, masks=left_padding, causal=causal)

    # Spectral options inside the layer.
    add(hybrid, "hybrid_use_dct", [S, P, H, P], T=31, use_dct=True)
    add(hybrid, "hybrid_use_dct_token_mask", [S, P, H, P], T=64, B=1, use_dct=True, masks=padding)
    add(hybrid, "hybrid_token_gate", [S, P, H, P], T=31, token_gate=True)
    add(hybrid, "hybrid_token_gate_causal", [S, P, H, P], T=64, B=1, token_gate=True, causal=True, masks=padding)

    # SpectralAttention by itself: every option at every T, odd and prime ones among them.
    variants = {
        "circular": {}, "causal": {"causal": True}, "dct": {"use_dct": True},
        "gate": {"token_gate": True}, "gate_causal": {"token_gate": True, "causal": True},
    }
    for variant, options in variants.items():
        for T in (1, 2, 31, 64, 97, 128):
            add(spectral, f"spectral_{variant}_T{T}", T, B=2 if T < 64 else 1, **options)
        add(spectral, f"spectral_{variant}_token_mask", 29, B=3, masks=padding, **options)
        for max_seq_len in (1, 2, 3, 1024):
            add(spectral, f"spectral_{variant}_max{max_seq_len}", 17, max_seq_len=max_seq_len, **options)
    add(spectral, "spectral_d_head_5", 45, d_model=20, n_heads=4, max_seq_len=64)
    add(spectral, "spectral_d_head_5_causal", 45, d_model=20, n_heads=4, max_seq_len=64, causal=True)

    for max_seq_len in (1, 2, 3, 8, 31, 64, 1024):
        table.append((f"causal_taps_{max_seq_len}", lambda _, n: causal_filter(n), (max_seq_len,), {}))
    add(initial_filter, "initial_filter")

    add(lm, "lm", 64, False, ["one_group", "two_groups"])
    add(lm, "lm_tied", 32, True, ["two_groups"])
    add(classifier, "classifier", ["two_groups"])
    return table


if __name__ == "__main__":
    for name, function, args, options in cases():
        if all(word in name for word in sys.argv[1:]):
            function(name, *args, **options)
    files = list(FOLDER.glob("*.safetensors"))
    print(f"{len(files)} files, {sum(f.stat().st_size for f in files) / 1e6:.1f} MB")
