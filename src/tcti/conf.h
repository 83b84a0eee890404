/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TCTI_CONF_H
#define TCTI_CONF_H

#include <stdbool.h>
#include <sys/un.h>

#define CONF_MAX 280 /* as in tpm2-abrmd 3.0 */
#define CONF_NAME_MAX 255

/* Where the daemon is: the socket is tried first, then the bus. */
typedef struct Conf {
        char socket[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* "": none */
        char bus_name[CONF_NAME_MAX + 1];                         /* "": none */
        bool session;
} Conf;

/* Return: false when the text, which may be NULL, is not understood; nothing was written then. */
bool conf_parse(const char *text, Conf *ret);

#endif
