/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef CTL_JSON_H
#define CTL_JSON_H

#include <glib.h>

#include <stdbool.h>

/*
 * JSON: dictionaries as objects, numbers as numbers
 *
 * Keys are lower case, with hyphens, and what has parts is an object: properties of the manager, which are named as
 * D-Bus has it, are translated. docs/MANAGER.md has all keys.
 */

/* @pretty: over several lines. A floating value is freed. */
char *json_text(GVariant *value, bool pretty); /* g_free() it */
void json_print(GVariant *value, bool pretty); /* and a line feed */

/* a{sv}, floating */
GVariant *json_of_properties(GVariant *all);
GVariant *json_of_client(GVariant *client);   /* a row of ListClients */
GVariant *json_of_clients(GVariant *clients); /* aa{sv}: all rows */

/* All rows, of GVariant *, as an array; @translate: of each; NULL: as they are */
void json_print_rows(const GPtrArray *rows, GVariant *(*translate)(GVariant *row));

GVariant *json_command_name(guint32 code); /* a string, or null */

#endif
