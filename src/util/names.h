/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef UTIL_NAMES_H
#define UTIL_NAMES_H

/*
 * Names that the daemon, tabrmctl and the client library share
 *
 * Where the daemon is found unless an option says otherwise, and what its objects on D-Bus are called. Those of clients
 * are the ones of tpm2-abrmd 3.0.
 */
#define TABRMD_SOCKET_PATH "/run/tpm2-abrmd/tpm.sock"
#define TABRMD_DBUS_NAME "com.intel.tss2.Tabrmd"

/* For clients */
#define TABRMD_DBUS_PATH "/com/intel/tss2/Tabrmd/Tcti"
#define TABRMD_DBUS_INTERFACE "com.intel.tss2.TctiTabrmd"
#define TABRMD_DBUS_ERROR "com.intel.tss2.Tabrmd.Error"

/* For administrators; manager/com.intel.tss2.Tabrmd.Manager1.xml is the interface */
#define MANAGER_SOCKET_PATH "/run/tpm2-abrmd/manager.sock"
#define MANAGER_PATH "/com/intel/tss2/Tabrmd/Manager"
#define MANAGER_INTERFACE "com.intel.tss2.Tabrmd.Manager1"

#endif
