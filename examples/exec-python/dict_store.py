#!/usr/bin/env python3
"""A store for agentfs that keeps files in a dictionary: docs/exec-backend.md, protocol 1.

Nothing else may go to standard output: what is printed there belongs on standard error."""
import json, struct, sys, time, uuid

files = {}  # name -> (content, version, mtime, operation)
dirs = {"."}
waiting = {}  # id of a put whose content is not complete -> the request, the pieces so far

class Failure(Exception):
    """Its text is the name of an error in the protocol."""

def parent(name):
    return name.rpartition("/")[0] or "."

def make_parents(name):
    while (name := parent(name)) not in dirs:
        if name in files:
            raise Failure("not_dir")
        dirs.add(name)

def key(name):  # what a listing is sorted by: the bytes, with a slash after a directory's name
    return (name.rpartition("/")[2] + "/" * (name in dirs)).encode()

def children(name, after=b""):
    below = (n for n in [*files, *dirs] if n != "." and parent(n) == name and key(n) > after)
    return sorted(below, key=key)

def entry(name):
    if name in dirs:
        return {"name": name, "type": "dir"}
    if name not in files:
        raise Failure("not_exist")
    content, version, mtime, operation = files[name]
    return {"name": name, "type": "file", "size": len(content), "mtime": mtime, "version": version, "operation": operation}

def check(name, cond):  # nothing happens between this and the change: requests are handled one by one
    if cond.get("absent") and (name in files or name in dirs):
        raise Failure("exist")
    if cond.get("match") and (name not in files or files[name][1] != cond["match"]):
        raise Failure("changed")

def answer(r, body):  # the answer to a request, and the content that goes with it
    op, name = r["op"], r.get("name", ".")
    if op == "hello":
        return {"protocol": 1, "features": ["operation"], "parallel": 4}, b""
    if op not in ("stat", "list", "read", "put", "mkdir", "remove"):
        raise Failure("unsupported")
    check(name, r.get("if", {}))
    if op == "list":
        if name not in dirs:
            raise Failure("not_dir" if name in files else "not_exist")
        names, limit = children(name, r.get("after", "").encode()), r["limit"]
        return {"entries": [entry(n) for n in names[:limit]], "more": len(names) > limit}, b""
    if op == "mkdir":
        make_parents(name)
        dirs.add(name)
    if op in ("put", "read") and name in dirs:
        raise Failure("is_dir")
    if op == "put":
        make_parents(name)
        files[name] = body, uuid.uuid4().hex, time.time(), r.get("operation", "")
    e, content = entry(name), b""
    if op == "read":
        content = files[name][0][r.get("off", 0):][:r["len"]]
    if op == "remove":
        if name == "." or name in dirs and children(name):
            raise Failure("busy" if name == "." else "not_empty")
        dirs.discard(name)
        files.pop(name, None)
    return {"entry": e}, content

def handle(r, body):
    if r["op"] == "cancel":
        return ({"error": "cancelled"}, b"") if waiting.pop(r["id"], None) else (None, b"")
    if r["op"] in ("put", "data"):  # a content comes in pieces, each when it was asked for
        first, pieces = waiting.pop(r["id"], (r, []))
        pieces.append(body)
        if r.get("more"):
            waiting[r["id"]] = first, pieces
            return {"more": True}, b""
        r, body = first, b"".join(pieces)
    try:
        return answer(r, body)
    except Failure as failure:
        return {"error": str(failure)}, b""

while head := sys.stdin.buffer.read(8):  # agentfs closes it when the program is to end
    size, length = struct.unpack(">II", head)
    request = json.loads(sys.stdin.buffer.read(size))
    reply, content = handle(request, sys.stdin.buffer.read(length))
    if reply is not None:
        text = json.dumps({"id": request["id"], **reply}).encode()
        sys.stdout.buffer.write(struct.pack(">II", len(text), len(content)) + text + content)
        sys.stdout.buffer.flush()
