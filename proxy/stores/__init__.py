"""The store: what all gateways share at every moment (accounts, keys, limits in use), in a Redis-compatible server.

`connection` speaks to the server, `limits` and `keys` implement the seams of the nouns with the scripts in `lua/`, and
`embedded` runs a server of our own. Nothing above this floor knows key names or scripts, and nothing here knows HTTP.
"""
