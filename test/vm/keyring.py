# SPDX-License-Identifier: BSD-2-Clause
"""
Trusted keys of the kernel (Documentation/security/keys/trusted-encrypted.rst): it seals and unseals them in the TPM
itself.
"""

import ctypes
import os

ADD_KEY, KEYCTL = 248, 250  # system calls of x86-64
READ, INVALIDATE = 11, 21
PROCESS_KEYRING = -2
SIZE_MAX = 4096

syscall = ctypes.CDLL(None, use_errno=True).syscall
syscall.restype = ctypes.c_long


def call(*arguments):
    result = syscall(*(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def add(name, payload):
    """"new 32 keyhandle=0x81000001", or "load BLOB ..." -> serial number of the key. OSError: the TPM did not do it"""
    data = payload.encode()
    return call(ADD_KEY, b"trusted", name.encode(), data, len(data), PROCESS_KEYRING)


def read(key):
    """-> the sealed blob, in hexadecimal digits"""
    buffer = ctypes.create_string_buffer(SIZE_MAX)
    n = call(KEYCTL, READ, key, buffer, SIZE_MAX, 0)
    return buffer.raw[:n].decode()


def forget(key):
    call(KEYCTL, INVALIDATE, key, 0, 0, 0)
