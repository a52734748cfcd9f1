"""The steps of a request, in the order of `gateway.py`. No step imports another: what one learned is in the value it
returns.
"""
