/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BACKEND_BACKEND_CONF_H
#define BACKEND_BACKEND_CONF_H

#include "backend/backend.h"

/**
 * backend_new() - make the back end for a TCTI configuration, closed
 * @conf: "device:PATH", "swtpm:host=H,port=N", "swtpm:path=P" (control channel at P.ctrl) and "libtpms[:STATE-DIR]" are
 * ours; everything else is a TCTI name for the helper program
 *
 * Return: NULL with @error when @conf cannot name a back end: empty, or "tabrmd", which would be the daemon itself.
 */
Backend *backend_new(Loop *loop, const char *conf, GError **error);

/* Until what back ends that were closed have left behind has ended, or was killed: some seconds. */
void backend_wait(void);

#endif
