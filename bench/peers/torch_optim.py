"""PyTorch's own optimizers, one step at a time: answers JSON lines with JSON lines.

setup: {"op": "setup", "name": "Adam", "arguments": {...}, "parameters": n, "tensors": k, "threads": t}
       builds the optimizer over k tensors of n/k float32 numbers with gradients, by its loop over tensors and by its
       multi-tensor path where it has one.
step:  {"op": "step", "count": c} times c steps of each path; replies {"milliseconds": {"loop": [...], "foreach": [...]}}.
"""

import inspect
import json
import sys
import time

import torch


def build(cls, arguments, parameters, tensors, **extra):
    torch.manual_seed(1)
    size = parameters // tensors
    weights = [torch.nn.Parameter(torch.rand(size) - 0.5) for _ in range(tensors)]
    for weight in weights:
        weight.grad = (torch.rand(size) - 0.5) * 0.02
    return cls(weights, **arguments, **extra)


def main():
    optimizers = {}
    for line in sys.stdin:
        request = json.loads(line)
        reply = {"ok": True}
        try:
            if request["op"] == "setup":
                optimizers.clear()
                torch.set_num_threads(request["threads"])
                cls = getattr(torch.optim, request["name"])
                size = (request["parameters"], request["tensors"])
                has_foreach = "foreach" in inspect.signature(cls).parameters
                paths = {"loop": {"foreach": False}, "foreach": {"foreach": True}} if has_foreach else {"loop": {}}
                for path, extra in paths.items():
                    optimizers[path] = build(cls, request["arguments"], *size, **extra)
                reply["version"] = torch.__version__
            elif request["op"] == "step":
                reply["milliseconds"] = {}
                for path, optimizer in optimizers.items():
                    times = []
                    for _ in range(request["count"]):
                        start = time.perf_counter()
                        optimizer.step()
                        times.append((time.perf_counter() - start) * 1e3)
                    reply["milliseconds"][path] = times
            elif request["op"] == "drop":
                optimizers.clear()
        except Exception as error:
            reply = {"ok": False, "message": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)


main()
