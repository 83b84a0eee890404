/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef CTL_PROBE_H
#define CTL_PROBE_H

typedef enum Probe {
        PROBE_NOTHING, /* nobody is there, or says anything */
        PROBE_DBUS,
        PROBE_TPM,
        PROBE_OTHER,
} Probe;

/* Which protocol a Unix socket speaks, by what it answers to the first bytes of D-Bus; after a second at most. */
Probe probe_socket(const char *path);

#endif
