"""aion-proxy: a gateway for language models.

The story of a request is told in `gateway.py`: authenticate → accept → admit → route → forward → meter → settle. Each
step is a file in `steps/`. A file imports only from lower floors:

    root      cli app demo supervisor worker     the programs: who starts what
    story     api gateway serving refuse health  what happens to a request, and what is answered
    steps     steps/                             one step each, none knows another
    edges     http_server client_request upstream/ stores/ metrics logs configuration   the only places with I/O
    nouns     call accounts limits usage pricing catalog settings translation wire/  values and rules, no I/O, no clock
    words     errors

`wire/` holds the bytes: requests, answers, streams, server-sent events, errors; `translation.py` says which parts of it
one call needs. `upstream/` holds the connections to providers and the pump that carries their bytes to a client.
`stores/` holds accounts, keys and limits in Redis or Valkey. `conformance/` is a program of its own that checks an
endpoint from outside.
"""

__version__ = "0.1.0"
