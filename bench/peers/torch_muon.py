"""Muon's step on matrices in PyTorch float32, one step at a time: answers JSON lines with JSON lines.

setup: {"op": "setup", "shapes": [[rows, columns], ...], "threads": t}
step:  {"op": "step"} one step with the settings of github.com/KellerJordan/Muon; replies {"milliseconds": x}.
"""

import json
import sys
import time

import torch


def newton_schulz(g, steps=5):
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = g.size(0) > g.size(1)
    x = g.T if tall else g
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


@torch.no_grad()
def step(weights, gradients, buffers, lr=0.02, momentum=0.95):
    for weight, gradient, buffer in zip(weights, gradients, buffers):
        buffer.lerp_(gradient, 1 - momentum)
        update = newton_schulz(torch.lerp(gradient, buffer, momentum))
        weight.add_(update, alpha=-lr * max(1, weight.size(0) / weight.size(1)) ** 0.5)


def main():
    state = ()
    for line in sys.stdin:
        request = json.loads(line)
        reply = {"ok": True}
        if request["op"] == "setup":
            torch.set_num_threads(request["threads"])
            torch.manual_seed(1)
            draw = lambda scale: [torch.randn(shape) * scale for shape in request["shapes"]]
            state = (draw(0.02), draw(1e-3), draw(0))
            reply["version"] = torch.__version__
        else:
            start = time.perf_counter()
            step(*state)
            reply["milliseconds"] = (time.perf_counter() - start) * 1e3
        print(json.dumps(reply), flush=True)


main()
