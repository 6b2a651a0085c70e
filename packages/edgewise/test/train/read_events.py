"""Reads a TensorBoard event file with nothing but the standard library and prints it as JSON.

Written from TensorFlow's format descriptions (record_writer.cc, event.proto, summary.proto), with a bitwise CRC-32C; shares no
code with the library. Usage: python3 read_events.py FILE
"""
import json
import struct
import sys


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data):
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17 & 0xFFFFFFFF)) + 0xA282EAD8) & 0xFFFFFFFF


def varint(data, i):
    value = shift = 0
    while True:
        byte = data[i]
        value |= (byte & 0x7F) << shift
        i, shift = i + 1, shift + 7
        if not byte & 0x80:
            return value, i


def fields(data):
    i = 0
    while i < len(data):
        key, i = varint(data, i)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, i = varint(data, i)
        elif wire == 1:
            value, i = struct.unpack_from("<d", data, i)[0], i + 8
        elif wire == 5:
            value, i = struct.unpack_from("<f", data, i)[0], i + 4
        elif wire == 2:
            size, i = varint(data, i)
            assert i + size <= len(data), "field runs past its message"
            value, i = data[i : i + size], i + size
        else:
            raise AssertionError(f"wire type {wire}")
        yield number, value


def signed(value):
    return value - (1 << 64) if value >= 1 << 63 else value


def histogram(data):
    names = {1: "min", 2: "max", 3: "count", 4: "sum", 5: "sumOfSquares"}
    out = {}
    for number, value in fields(data):
        if number in names:
            out[names[number]] = value
        else:
            key = {6: "bucketLimits", 7: "buckets"}[number]
            out[key] = list(struct.unpack(f"<{len(value) // 8}d", value))
    return out


def event(data):
    out = {"wallTime": 0.0, "step": 0, "values": []}
    for number, value in fields(data):
        if number == 1:
            out["wallTime"] = value
        elif number == 2:
            out["step"] = signed(value)
        elif number == 3:
            out["fileVersion"] = value.decode()
        elif number == 5:
            for inner, summary in fields(value):
                assert inner == 1
                entry = {}
                for key, part in fields(summary):
                    if key == 1:
                        entry["tag"] = part.decode()
                    elif key == 2:
                        entry["kind"], entry["value"] = "scalar", part
                    elif key == 5:
                        entry["kind"], entry["histogram"] = "histogram", histogram(part)
                out["values"].append(entry)
        else:
            raise AssertionError(f"field {number}")
    return out


def main():
    data = open(sys.argv[1], "rb").read()
    events, i = [], 0
    while i < len(data):
        size, head = struct.unpack_from("<QI", data, i)
        assert head == masked(data[i : i + 8]), f"length checksum at {i}"
        message = data[i + 12 : i + 12 + size]
        assert struct.unpack_from("<I", data, i + 12 + size)[0] == masked(message), f"message checksum at {i}"
        events.append(event(message))
        i += 16 + size
    print(json.dumps(events))


main()
