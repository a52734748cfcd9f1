"""The bytes on both sides, and nothing that does I/O: framing, scanning, requests, answers, translation.

Everything here takes bytes and values and gives back bytes and values; "need more" is a value. Each machine gives the
same result however its input is cut.
"""
