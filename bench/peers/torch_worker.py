"""PyTorch as a peer: the worker protocol of ../protocol.ts over the workloads of ../workloads.ts.

    torch_worker.py --info      one JSON line: versions, BLAS and its speed; exit code 3 where torch is absent
    torch_worker.py             serves requests

Gradients are torch.autograd.grad, Hessian-vector products double backward passes with the vector as grad_outputs (no extra dot
product), updates the foreach functions. Memory format and allocator are PyTorch's defaults.
"""

import gc
import json
import math
import os
import sys
import time

# The protocol owns the real standard output; whatever libraries print goes to standard error.
REPLIES = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

try:
    import numpy as np
    import torch
    import torch.nn.functional as F
except ImportError as error:
    print(json.dumps({"missing": str(error)}), file=REPLIES, flush=True)
    sys.exit(3)

SEED_INPUT, SEED_TARGET, SEED_PARAMETER, SEED_DIRECTION, SEED_GRADIENT = 1, 2, 100, 1000, (5000, 6000)


class Unsupported(Exception):
    pass


def hashed(seed, count):
    """The same 32 bits as hash() in ../data.ts."""
    with np.errstate(over="ignore"):
        h = np.arange(count, dtype=np.uint32) * np.uint32(0x9E3779B1) + np.uint32(seed * 0x85EBCA6B & 0xFFFFFFFF)
        h = (h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
        h = (h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35)
        return h ^ (h >> np.uint32(16))


def uniform(shape, seed, scale=1.0):
    values = (hashed(seed, math.prod(shape)) / 2.0**31 - 1.0) * scale
    return torch.from_numpy(values.astype(np.float32)).reshape(shape)


def integers(shape, seed, bound):
    return torch.from_numpy((hashed(seed, math.prod(shape)) % np.uint32(bound)).astype(np.int64)).reshape(shape)


def initial(spec, index):
    if spec["init"] == "uniform":
        return uniform(spec["shape"], SEED_PARAMETER + index, spec["scale"])
    return torch.full(spec["shape"], 1.0 if spec["init"] == "ones" else 0.0)


# Models: each returns a function from the dictionary of parameters to the scalar loss.


def images(sizes):
    shape = (sizes["batch"], sizes["channels"], sizes["side"], sizes["side"])
    return uniform(shape, SEED_INPUT), integers((sizes["batch"],), SEED_TARGET, sizes["classes"])


def resnet20(sizes):
    x, y = images(sizes)
    statistics = {}

    def normed(p, name, h):
        mean, var = statistics.setdefault(name, (torch.zeros(h.shape[1]), torch.ones(h.shape[1])))
        return F.batch_norm(h, mean, var, p[name + ".weight"], p[name + ".bias"], training=True, momentum=0.1, eps=1e-5)

    def loss(p):
        h = F.relu(normed(p, "stem.norm", F.conv2d(x, p["stem.weight"], padding=1)))
        for stage in range(3):
            for block in range(3):
                name = f"stage{stage}.block{block}"
                stride = 2 if stage > 0 and block == 0 else 1
                # Option A: every second pixel, the new channels zero, half of them on either side.
                skip = h if stride == 1 else F.pad(h[:, :, ::2, ::2], (0, 0, 0, 0, h.shape[1] // 2, h.shape[1] // 2))
                r = F.conv2d(h, p[name + ".conv0.weight"], stride=stride, padding=1)
                r = F.relu(normed(p, name + ".norm0", r))
                r = normed(p, name + ".norm1", F.conv2d(r, p[name + ".conv1.weight"], padding=1))
                h = F.relu(r + skip)
        return F.cross_entropy(F.linear(h.mean((2, 3)), p["head.weight"], p["head.bias"]), y)

    return loss


def convnet(sizes):
    x, y = images(sizes)

    def loss(p):
        h = F.relu(F.conv2d(x, p["conv0.weight"], stride=2, padding=1))
        h = F.relu(F.conv2d(h, p["conv1.weight"], stride=2, padding=1))
        return F.cross_entropy(F.linear(h.flatten(1), p["head.weight"], p["head.bias"]), y)

    return loss


def mlp(sizes):
    x = uniform((sizes["batch"], sizes["inputs"]), SEED_INPUT)
    y = integers((sizes["batch"],), SEED_TARGET, sizes["classes"])

    def loss(p):
        h = F.relu(F.linear(x, p["layer0.weight"], p["layer0.bias"]))
        h = F.relu(F.linear(h, p["layer1.weight"], p["layer1.bias"]))
        return F.cross_entropy(F.linear(h, p["layer2.weight"], p["layer2.bias"]), y)

    return loss


def mlp_small(sizes):
    x = uniform((sizes["batch"], sizes["inputs"]), SEED_INPUT)
    y = uniform((sizes["batch"], sizes["outputs"]), SEED_TARGET)

    def loss(p):
        h = torch.tanh(F.linear(x, p["layer0.weight"], p["layer0.bias"]))
        h = torch.tanh(F.linear(h, p["layer1.weight"], p["layer1.bias"]))
        return F.mse_loss(F.linear(h, p["layer2.weight"], p["layer2.bias"]), y)

    return loss


def transformer(sizes):
    batch, sequence, width, heads = (sizes[k] for k in ("batch", "sequence", "width", "heads"))
    tokens = integers((batch, sequence), SEED_INPUT, sizes["classes"])
    targets = integers((batch * sequence,), SEED_TARGET, sizes["classes"])
    scale = 1 / math.sqrt(width // heads)

    def lin(p, name, h):
        return F.linear(h, p[name + ".weight"], p[name + ".bias"])

    def normed(p, name, h):
        return F.layer_norm(h, (width,), p[name + ".weight"], p[name + ".bias"], 1e-5)

    def attend(p, name, h):
        q, k, v = lin(p, name + ".qkv", h).view(batch, sequence, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        weights = F.softmax((q * scale) @ k.transpose(-2, -1), dim=-1)
        return lin(p, name + ".proj", (weights @ v).transpose(1, 2).reshape(batch, sequence, width))

    def loss(p):
        h = F.embedding(tokens, p["token"]) + p["position"]
        for i in range(sizes["layers"]):
            name = f"block{i}"
            h = h + attend(p, name, normed(p, name + ".norm0", h))
            h = h + lin(p, name + ".down", F.gelu(lin(p, name + ".up", normed(p, name + ".norm1", h))))
        return F.cross_entropy(lin(p, "head", normed(p, "norm", h)).view(batch * sequence, -1), targets)

    return loss


MODELS = {"resnet20": resnet20, "convnet": convnet, "mlp": mlp, "mlp-small": mlp_small, "transformer": transformer}


class Derivative:
    """`grad`, `hvp` and `step` of one model."""

    def __init__(self, workload):
        specs = workload["parameters"]
        self.loss = MODELS[workload["model"]](workload["sizes"])
        self.kind = workload["kind"]
        self.named = {s["name"]: initial(s, i).requires_grad_() for i, s in enumerate(specs)}
        self.parameters = list(self.named.values())
        if self.kind == "hvp":
            self.direction = [uniform(s["shape"], SEED_DIRECTION + i) for i, s in enumerate(specs)]
        if self.kind == "step":
            h = workload["hyper"]
            if "momentum" in h:
                self.optimizer = torch.optim.SGD(self.parameters, h["lr"], momentum=h["momentum"], foreach=True)
            else:
                self.optimizer = torch.optim.AdamW(
                    self.parameters,
                    h["lr"],
                    betas=(h["beta1"], h["beta2"]),
                    eps=h["eps"],
                    weight_decay=h["weightDecay"],
                    foreach=True,
                )
        self.iterate = getattr(self, self.kind)

    def grad(self):
        loss = self.loss(self.named)
        return loss, torch.autograd.grad(loss, self.parameters)

    def hvp(self):
        loss = self.loss(self.named)
        first = torch.autograd.grad(loss, self.parameters, create_graph=True)
        return torch.autograd.grad(first, self.parameters, grad_outputs=self.direction)

    def step(self):
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(self.named)
        loss.backward()
        self.optimizer.step()
        return loss

    def check(self):
        if self.kind == "step":
            losses = [self.step().item() for _ in range(3)]
            return {"loss": losses[0], "loss_2": losses[2]}
        if self.kind == "grad":
            loss, gradient = self.grad()
            return {"loss": loss.item(), "grad_norm": norm(gradient)}
        product = self.hvp()
        curvature = sum((v.double() * h.double()).sum().item() for v, h in zip(self.direction, product))
        return {"hvp_norm": norm(product), "alignment": curvature / (norm(self.direction) * norm(product))}


def norm(tensors):
    return math.sqrt(sum(t.double().square().sum().item() for t in tensors))


class Adan:
    """Adan with proximal decay, in the fewest foreach passes found: the previous gradient's buffer serves as scratch for -d and
    g + beta2 d, the bias correction of the denominator is folded into scalars, and nothing but the denominator is allocated."""

    def __init__(self, workload):
        specs = workload["parameters"]
        self.h = workload["hyper"]
        self.parameters = [initial(s, i) for i, s in enumerate(specs)]
        self.gradients = [[uniform(s["shape"], seed + i) for i, s in enumerate(specs)] for seed in SEED_GRADIENT]
        self.m, self.v, self.n, self.previous = ([torch.zeros_like(p) for p in self.parameters] for _ in range(4))
        self.t = 0

    def iterate(self):
        h, g = self.h, self.gradients[self.t % 2]
        b1, b2, b3, lr = h["beta1"], h["beta2"], h["beta3"], h["lr"]
        self.t += 1
        c1, c2, c3 = (1 - b**self.t for b in (b1, b2, b3))
        scratch = self.previous
        if self.t == 1:
            for s, x in zip(scratch, g):
                s.copy_(x)
        torch._foreach_sub_(scratch, g)  # -d
        torch._foreach_mul_(self.m, b1)
        torch._foreach_add_(self.m, g, alpha=1 - b1)
        torch._foreach_mul_(self.v, b2)
        torch._foreach_add_(self.v, scratch, alpha=b2 - 1)
        torch._foreach_mul_(scratch, -b2)
        torch._foreach_add_(scratch, g)  # g + b2 d
        torch._foreach_mul_(self.n, b3)
        torch._foreach_addcmul_(self.n, scratch, scratch, value=1 - b3)
        root = math.sqrt(c3)
        denominator = torch._foreach_sqrt(self.n)
        torch._foreach_add_(denominator, h["eps"] * root)
        torch._foreach_addcdiv_(self.parameters, self.m, denominator, value=-lr * root / c1)
        torch._foreach_addcdiv_(self.parameters, self.v, denominator, value=-lr * root * b2 / c2)
        torch._foreach_mul_(self.parameters, 1 / (1 + lr * h["weightDecay"]))
        for s, x in zip(scratch, g):
            s.copy_(x)

    def check(self):
        start = [p.clone() for p in self.parameters]
        self.iterate()
        self.iterate()
        return {"moved": norm([p - s for p, s in zip(self.parameters, start)])}


def setup(workload, threads):
    torch.set_num_threads(threads)
    gc.freeze()
    session = Adan(workload) if workload["model"] == "adan" else Derivative(workload)
    if workload["model"] == "adan":
        with torch.no_grad():
            return session, session.check()
    return session, session.check()


def blas_in_use():
    """Paths of the BLAS shared objects mapped into this process once a product has run."""
    words = ("blas", "mkl", "blis", "atlas")
    paths = {line.split(maxsplit=5)[-1].strip() for line in open("/proc/self/maps") if "/" in line}
    return sorted(p for p in paths if any(w in os.path.basename(p).lower() for w in words))


def info():
    torch.set_num_threads(1)
    a = torch.randn(512, 512)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - start)
    return {
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": sys.version.split()[0],
        "cpu_capability": torch.__config__.show().split("CPU capability usage: ")[-1].split()[0],
        "blas": blas_in_use(),
        "matmul_gflops": round(2 * 512**3 / min(times) / 1e9, 1),
    }


def serve():
    session = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["op"] == "setup":
                session, check = setup(request["workload"], request["threads"])
                reply = {"ok": True, "check": check}
            elif request["op"] == "run":
                iterate, clock, times = session.iterate, time.perf_counter, []
                gc.collect()
                for _ in range(request["iterations"]):
                    start = clock()
                    iterate()
                    times.append((clock() - start) * 1e3)
                reply = {"ok": True, "times_ms": times}
            else:
                reply = {"ok": True}
        except Exception as error:
            kind = "unsupported" if isinstance(error, Unsupported) else "error"
            reply = {"ok": False, "kind": kind, "message": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=REPLIES, flush=True)
        if request["op"] == "close":
            return


if __name__ == "__main__":
    if sys.argv[1:] == ["--info"]:
        print(json.dumps(info()), file=REPLIES, flush=True)
    else:
        serve()
