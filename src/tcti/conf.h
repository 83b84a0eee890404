/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TCTI_CONF_H
#define TCTI_CONF_H

#include "tcti/log.h"

#include <stdbool.h>
#include <sys/un.h>

/* Where the daemon is to be found, from a configuration string; see tss2-tcti-tabrmd.h. */
#define CONF_MAX 280          /* as in tpm2-abrmd 3.0 */
#define CONF_BUS_NAME_MAX 255 /* D-Bus specification, "Valid Names" */

typedef enum ConfKind {
        CONF_DEFAULT = 0, /* the socket of the system, else the system bus */
        CONF_SOCKET = 1,
        CONF_BUS = 2, /* not with the former */
} ConfKind;

typedef struct Conf {
        ConfKind kind;
        char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
        bool session_bus;
        char bus_name[CONF_BUS_NAME_MAX + 1];
} Conf;

/* Return: false, and *ret_conf as it was, when @text makes no sense: see @why. NULL is the default. */
bool conf_parse(const char *text, Conf *ret_conf, Why *why);

#endif
