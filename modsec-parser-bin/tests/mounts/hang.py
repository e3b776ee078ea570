"""Mounts on each path what never answers: hang.py fuse|autofs PATH...

With FUSE, as a site user may: the kernel's first question is answered, as it must be; no other ever is.
With autofs: whoever enters waits for a daemon that is to mount something. Says "mounted" and
unmounts all when standard input ends.
"""

import ctypes
import os
import select
import struct
import sys

INIT = 26
MNT_DETACH = 2

libc = ctypes.CDLL(None, use_errno=True)


def mount(kind, path):
    if kind == "fuse":
        questions = os.open("/dev/fuse", os.O_RDWR)
        mode = 0o40000 if os.path.isdir(path) else 0o100000
        options = f"fd={questions},rootmode={mode:o},user_id=65534,group_id=65534,allow_other"
    else:
        questions, other_end = os.pipe()
        options = f"fd={other_end},pgrp={os.getpgrp()},minproto=5,maxproto=5,direct"
    if libc.mount(b"hang", os.fsencode(path), kind.encode(), 0, options.encode()) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), path)
    return questions


def answer(questions):
    request = os.read(questions, 1 << 20)
    _, opcode, unique = struct.unpack_from("=IIQ", request)
    if opcode == INIT:
        body = struct.pack("=IIIIHHI", 7, 31, 0, 0, 16, 12, 1 << 16).ljust(64, b"\0")
        os.write(questions, struct.pack("=IiQ", 16 + len(body), 0, unique) + body)


def main(kind, paths):
    # autofs lets those through who are in the process group of its daemon.
    os.setpgrp()
    mounted = {}
    try:
        for path in paths:
            mounted[mount(kind, path)] = path
        print("mounted", flush=True)
        while True:
            ready, _, _ = select.select([0, *mounted], [], [])
            if 0 in ready and not os.read(0, 1):
                return
            for questions in ready:
                if questions != 0 and kind == "fuse":
                    answer(questions)
                elif questions != 0:
                    os.read(questions, 1 << 20)
    finally:
        for questions, path in mounted.items():
            libc.umount2(os.fsencode(path), MNT_DETACH)
            os.close(questions)


main(sys.argv[1], sys.argv[2:])
