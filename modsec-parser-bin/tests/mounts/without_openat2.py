"""Runs a program for which openat2(2) fails with the given error.

ENOSYS is the answer of an old kernel, EPERM that of a filter which does not know the call.
"""

import ctypes
import errno
import os
import struct
import sys

OPENAT2 = 437
PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
ALLOW = 0x7FFF0000
ERRNO = 0x00050000


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def main(error, command):
    rules = [
        (0x20, 0, 0, 0),  # load the number of the call
        (0x15, 0, 1, OPENAT2),  # if it is this one
        (0x06, 0, 0, ERRNO | getattr(errno, error)),
        (0x06, 0, 0, ALLOW),
    ]
    code = b"".join(struct.pack("=HBBI", *rule) for rule in rules)
    libc = ctypes.CDLL(None, use_errno=True)
    program = Program(len(rules), code)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no filter")
    os.execvp(command[0], command)


main(sys.argv[1], sys.argv[2:])
