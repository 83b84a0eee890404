/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MANAGER_NAMES_H
#define MANAGER_NAMES_H

/* What the daemon and tabrmctl both know of the manager; the interface is in the XML file beside this one. */

#define MANAGER_PATH "/com/intel/tss2/Tabrmd/Manager"
#define MANAGER_INTERFACE "com.intel.tss2.Tabrmd.Manager1"
#define MANAGER_SOCKET_PATH "/run/tpm2-abrmd/manager.sock"

/* One message of a trace; see the method Trace. */
#define MANAGER_RECORD_TYPE "(ytttuusyttuayay)"
#define MANAGER_RECORD_CLIENT 'c'
#define MANAGER_RECORD_TPM 't'
#define MANAGER_RECORD_MAX (3 * 8192) /* bytes */

#endif
