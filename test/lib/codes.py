# SPDX-License-Identifier: BSD-2-Clause
"""Response codes, when the answers of two TPMs are compared."""

HANDLE, VALUE = 0x0B, 0x04


def class_of(rc):
    """
    One of layer 11 is the same of layer 0, and what is wrong with handle, session or parameter n may be said as
    REFERENCE, HANDLE or VALUE.
    """
    if rc >> 16 == 0xB:
        rc &= 0xFFFF
    if 0x910 <= rc <= 0x916:
        return "handle %d" % (rc - 0x910)
    if 0x918 <= rc <= 0x91E:
        return "session %d" % (rc - 0x918)
    if rc & 0x80 and rc & 0x3F in (HANDLE, VALUE):
        number = rc >> 8 & 0xF
        if rc & 0x40:
            return "parameter %d" % number
        return "session %d" % (number - 9) if number > 8 else "handle %d" % (number - 1)
    return rc


def is_about_handle(rc):
    """Whatever is wrong with it."""
    return 0x910 <= rc <= 0x916 or (rc & 0xC0 == 0x80 and rc >> 8 & 0xF < 8)
