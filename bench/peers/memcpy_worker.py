"""The machine's copy bandwidth as a peer: the C library's memmove over as many bytes as an Adan update must move.

An Adan update reads theta, g, m, v, n and the previous gradient and writes all but g: 11 float32 numbers, 44 bytes a parameter. A
copy moves each byte twice (read, written), so the copy of a block of 22 bytes a parameter moves as much. Each thread copies its
share; ctypes releases the interpreter lock. Needs nothing but Python.
"""

import ctypes
import json
import math
import sys
import threading
import time

BYTES = 22


class Copy:
    def __init__(self, parameters, threads):
        size = BYTES * parameters
        self.source, self.target = (ctypes.create_string_buffer(size) for _ in range(2))
        for fill, buffer in ((1, self.source), (2, self.target)):
            ctypes.memset(buffer, fill, size)
        share = math.ceil(size / threads / 4096) * 4096
        self.shares = [(i * share, min(share, size - i * share)) for i in range(threads)]

    def copy(self, offset, length):
        ctypes.memmove(ctypes.addressof(self.target) + offset, ctypes.addressof(self.source) + offset, length)

    def iterate(self):
        helpers = [threading.Thread(target=self.copy, args=s) for s in self.shares[1:]]
        for helper in helpers:
            helper.start()
        self.copy(*self.shares[0])
        for helper in helpers:
            helper.join()


def main():
    session = None
    for line in sys.stdin:
        request = json.loads(line)
        reply = {"ok": True}
        try:
            if request["op"] == "setup":
                parameters = sum(math.prod(s["shape"]) for s in request["workload"]["parameters"])
                session = Copy(parameters, request["threads"])
                reply["check"] = {}
            elif request["op"] == "run":
                times = []
                for _ in range(request["iterations"]):
                    start = time.perf_counter()
                    session.iterate()
                    times.append((time.perf_counter() - start) * 1e3)
                reply["times_ms"] = times
        except Exception as error:
            reply = {"ok": False, "kind": "error", "message": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)
        if request["op"] == "close":
            return


main()
