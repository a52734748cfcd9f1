"""Does an endpoint speak as this gateway promises to? Checks of everything that a client can see, against any server.

A check names the requests that it needs and judges their answers; judging is pure, so that each check is tested
against servers that break its rule. Two checks that need the same request share one answer, because answers cost money.

    exchange check          one request and its answer as values; what a check is, and how it is chosen
    asks client runner      the requests; the way to the endpoint; asking, counting and judging
    refusals shapes sse     what several judges share: refusals, the form of JSON, the events of a stream
    the rest                the checks, a file for each part of the API; `catalogue.py` puts them in order

The clauses (`A1.4`) are this project's own numbering: A credentials and headers, B errors, C models, D chat
completions, E their streams, F responses. `aion-proxy conformance --list` says each in a sentence.
"""
