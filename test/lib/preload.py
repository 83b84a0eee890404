# SPDX-License-Identifier: BSD-2-Clause
"""Has system calls of the daemon fail: see preload.c."""

import errno
import mmap
import struct

from process import clean_env
from tpms import BUILD

# In the order of preload.c: what fails, and how it does where memory or descriptors run out.
FUNCTIONS = {
    "malloc": errno.ENOMEM, "accept4": errno.EMFILE, "epoll_ctl": errno.ENOMEM, "recv": errno.ENOMEM,
    "recvmsg": errno.ENOMEM, "send": errno.ENOMEM, "sendmsg": errno.ENOMEM, "read": errno.EIO, "write": errno.ENOSPC,
    "memfd_create": errno.EMFILE, "mmap": errno.ENOMEM, "socketpair": errno.EMFILE, "getsockopt": errno.ENOBUFS,
    "timer_create": errno.EAGAIN,
}
LIBRARY = BUILD / "test/lib/preload.so"


class Preload:
    """.env is what the daemon is started with."""

    def __init__(self, path, old_kernel=False):
        n = len(FUNCTIONS)
        with open(path, "wb+") as file:
            file.write(bytes(4 * n * 8))
            file.flush()
            self._shared = mmap.mmap(file.fileno(), 4 * n * 8)
        # The run-time of a sanitizer would like to be the first library.
        sanitizer = clean_env()["ASAN_OPTIONS"] + ":verify_asan_link_order=0"
        self.env = {"LD_PRELOAD": str(LIBRARY), "TABRMD_PRELOAD": str(path), "ASAN_OPTIONS": sanitizer}
        if old_kernel:
            self.env["TABRMD_OLD_KERNEL"] = "1"

    def _at(self, field, name):
        return (field * len(FUNCTIONS) + list(FUNCTIONS).index(name)) * 8

    def _get(self, field, name):
        return struct.unpack_from("Q", self._shared, self._at(field, name))[0]

    def n_calls(self, name):
        return self._get(0, name)

    def n_failed(self, name):
        return self._get(3, name)

    def fail(self, name, n):
        """The nth call from now on."""
        struct.pack_into("Q", self._shared, self._at(2, name), FUNCTIONS[name])
        struct.pack_into("Q", self._shared, self._at(1, name), self.n_calls(name) + n)

    def fail_none(self):
        for name in FUNCTIONS:
            struct.pack_into("Q", self._shared, self._at(1, name), 0)
