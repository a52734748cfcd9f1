"""The dashboard and the admin API: what the people who run the gateway, and those who use it, see in a browser.

Served on the admin port by the supervisor, never by a worker: a page may take its time, a stream may not. Operations
are those of `proxy/admin/`, which the commands use as well; SQL runs in threads.
"""
