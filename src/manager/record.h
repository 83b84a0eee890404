/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MANAGER_RECORD_H
#define MANAGER_RECORD_H

#include "tpm/header.h"

/* One message of a trace, as the daemon writes it and tabrmctl reads it; see the method Trace of the manager. */
#define MANAGER_RECORD_TYPE "(ytttuusyttuayay)"
#define MANAGER_RECORD_CLIENT 'c'
#define MANAGER_RECORD_TPM 't'
#define MANAGER_RECORD_MAX (3 * TPM_MESSAGE_MAX) /* bytes */

#endif
