/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BACKEND_BACKEND_HELPER_H
#define BACKEND_BACKEND_HELPER_H

#include "backend/backend.h"

/* The helper program, which has a libtpms or any TCTI library */
Backend *backend_helper_new(const char *conf);

void backend_helper_wait(void); /* until those that were let go have ended, or were killed */

#endif
