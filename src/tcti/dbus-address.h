/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TCTI_DBUS_ADDRESS_H
#define TCTI_DBUS_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

/*
 * D-Bus addresses
 *
 * Where a bus is, in the words of the D-Bus specification, "Server addresses". Of all transports only Unix sockets are
 * known; entries of a list that cannot be used are passed over.
 */
typedef struct DbusAddress {
        struct sockaddr_un socket;
        socklen_t size;
} DbusAddress;

/* The environment's word for the bus, or where it usually is. Borrowed. */
const char *dbus_address_list(bool session);

/*
 * Takes the next usable entry from a list.
 *
 * @list: moved behind the entry
 *
 * Return: false when there is none.
 */
bool dbus_address_next(const char **list, DbusAddress *ret);

#endif
